"""Tokens that sampling leaves, and their probabilities, by the logits processors of transformers.

    python generate.py > logits_processors.json

Requires torch and transformers (made with 5.24.0).
"""
import json
import random

import torch
from transformers import (MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
                          TopKLogitsWarper, TopPLogitsWarper)

rng = random.Random(20261129)
torch.set_num_threads(1)
cases = []
for number in range(120):
    size = rng.choice([8, 40, 200])
    logits = [round(rng.gauss(0, rng.choice([1, 4, 12])), 3) for _ in range(size)]
    tokens = [rng.randrange(size) for _ in range(rng.choice([0, 1, 12]))]
    options = {
        "temperature": rng.choice([1.0, 0.3, 0.7, 1.6]),
        "top_k": rng.choice([0, 1, 5, 50]),
        "top_p": rng.choice([1.0, 0.5, 0.9, 0.99]),
        "min_p": rng.choice([0.0, 0.05, 0.3]),
        "repetition_penalty": rng.choice([1.0, 1.1, 1.8, 0.7]),
    }
    ids, scores = torch.tensor([tokens], dtype=torch.long), torch.tensor([logits])
    # The order in which transformers' generate applies them.
    if options["repetition_penalty"] != 1 and tokens:
        scores = RepetitionPenaltyLogitsProcessor(options["repetition_penalty"])(ids, scores)
    if options["temperature"] != 1:
        scores = TemperatureLogitsWarper(options["temperature"])(ids, scores)
    if options["top_k"]:
        scores = TopKLogitsWarper(options["top_k"])(ids, scores)
    if options["top_p"] < 1:
        scores = TopPLogitsWarper(options["top_p"])(ids, scores)
    if options["min_p"]:
        scores = MinPLogitsWarper(options["min_p"])(ids, scores)
    kept = {i: p for i, p in enumerate(torch.softmax(scores.double(), -1)[0].tolist()) if p > 0}
    cases.append({"logits": logits, "tokens": tokens, **options, "kept": sorted(kept),
                  "probabilities": [round(kept[i], 9) for i in sorted(kept)]})
print("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]")
