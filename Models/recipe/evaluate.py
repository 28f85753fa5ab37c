"""Exact match per question family through transformers' generate (exported bf16 weights, computed in float32)."""
import argparse
import json
import sys
from pathlib import Path
import torch
from PIL import Image
try:
    import torchvision  # noqa: F401
except Exception:                       # missing or incompatible with torch: transformers then uses the PIL processors
    sys.modules["torchvision"] = None
from transformers import AutoProcessor, LlavaForConditionalGeneration
from score import table, write_records


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
    p.add_argument("--part", default="0/1", help="i/n: every n-th question from i on, for parallel runs")
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
        write_records(a.out, records)


if __name__ == "__main__":
    main()
