"""Exact match per question family through transformers' generate (the exported bf16 weights, float32 arithmetic)."""
import argparse
import json
import math
import sys
from pathlib import Path
import torch
from PIL import Image
try:
    import torchvision  # noqa: F401
except Exception:                       # absent or not matching torch: transformers then uses the PIL processors
    sys.modules["torchvision"] = None
from transformers import AutoProcessor, LlavaForConditionalGeneration


def wilson(good: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927)."""
    if total == 0:
        return 0.0, 1.0
    p, w = good / total, z * z / total
    middle, half = (p + w / 2) / (1 + w), math.sqrt(p * (1 - p) * w + w * w / 4) / (1 + w)
    return middle - half, middle + half


def table(records: list[dict]) -> str:
    """Markdown: family, right answers in per cent, 95% interval, questions. records: {category, ok, ...}"""
    families: dict[str, list[bool]] = {}
    for r in records:
        families.setdefault(r["category"], []).append(r["ok"])
    lines = ["| family | exact % | 95% interval | questions |", "| --- | ---: | --- | ---: |"]
    for name, hits in [*sorted(families.items()), ("all", [r["ok"] for r in records])]:
        low, high = wilson(sum(hits), len(hits))
        lines.append(f"| {name} | {100 * sum(hits) / len(hits):.1f} | {100 * low:.1f} to {100 * high:.1f} | {len(hits)} |")
    return "\n".join(lines)


@torch.no_grad()
def answer(model, processor, folder: Path, questions: list[dict]) -> list[str]:
    """Greedy answers to questions with images in folder/images."""
    images = [Image.open(folder / "images" / q["image"]).convert("RGB") for q in questions]
    inputs = processor(images=images, text=[f"USER: <image>\n{q['text']} ASSISTANT:" for q in questions],
                       return_tensors="pt", padding=True)
    ids = model.generate(**inputs, max_new_tokens=16, do_sample=False)[:, inputs["input_ids"].shape[1]:]
    return [s.strip() for s in processor.batch_decode(ids, skip_special_tokens=True)]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True, type=Path, help="folder with answers.jsonl and images/")
    p.add_argument("--out", type=Path, help="predictions as JSON lines")
    p.add_argument("--limit", type=int)
    p.add_argument("--at-once", type=int, default=6)
    p.add_argument("--part", default="0/1", help="i/n: every n-th question from i on, to share the work")
    a = p.parse_args()
    torch.set_num_threads(1)
    processor = AutoProcessor.from_pretrained(a.model)
    model = LlavaForConditionalGeneration.from_pretrained(a.model, dtype=torch.float32).eval()
    part, parts = map(int, a.part.split("/"))
    questions = [json.loads(line) for line in open(a.data / "answers.jsonl")][:a.limit][part::parts]
    records = []
    for i in range(0, len(questions), a.at_once):
        some = questions[i:i + a.at_once]
        for q, said in zip(some, answer(model, processor, a.data, some)):
            records.append(dict(q, pred=said, ok=said == q["answer"]))
    print(table(records))
    if a.out:
        a.out.write_text("".join(json.dumps(r) + "\n" for r in records))


if __name__ == "__main__":
    main()
