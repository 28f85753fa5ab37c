"""Exact match per question family of an answers file, such as pdrop-run's, and agreement with another file."""
import argparse
import json
import math
from pathlib import Path


def wilson(good: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a proportion (Wilson 1927)."""
    if total == 0:
        return 0.0, 1.0
    p, w = good / total, z * z / total
    middle, half = (p + w / 2) / (1 + w), math.sqrt(p * (1 - p) * w + w * w / 4) / (1 + w)
    return middle - half, middle + half


def share(right: list[bool]) -> str:
    """`85.0 (81.4 to 88.1)`: percentage with its 95% interval."""
    low, high = wilson(sum(right), len(right))
    return f"{100 * sum(right) / len(right):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def table(records: list[dict]) -> str:
    """Markdown table: family, accuracy in per cent, 95% interval, questions. records: {category, ok, ...}"""
    families: dict[str, list[bool]] = {}
    for r in records:
        families.setdefault(r["category"], []).append(r["ok"])
    lines = ["| family | exact % | 95% interval | questions |", "| --- | ---: | --- | ---: |"]
    for name, hits in [*sorted(families.items()), ("all", [r["ok"] for r in records])]:
        low, high = wilson(sum(hits), len(hits))
        lines.append(f"| {name} | {100 * sum(hits) / len(hits):.1f} | {100 * low:.1f} to {100 * high:.1f} | {len(hits)} |")
    return "\n".join(lines)


def read_records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_records(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))


def said(records: list[dict]) -> dict[int, str]:
    """Answers by question, from evaluate.py (pred) or in LLaVA's answers format (text)."""
    return {r["question_id"]: r.get("pred", r["text"]).strip() for r in records}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--answers", required=True, type=Path)
    p.add_argument("--data", required=True, type=Path, help="folder with answers.jsonl")
    p.add_argument("--other", type=Path, help="answers of another program to the same questions")
    a = p.parse_args()
    ours = said(read_records(a.answers))
    truth = [q for q in read_records(a.data / "answers.jsonl") if q["question_id"] in ours]
    print(table([dict(q, ok=ours[q["question_id"]] == q["answer"]) for q in truth]))
    if a.other:
        theirs = said(read_records(a.other))
        both = ours.keys() & theirs.keys()
        print(f"equal answers: {sum(ours[k] == theirs[k] for k in both)} of {len(both)}")


if __name__ == "__main__":
    main()
