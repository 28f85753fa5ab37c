"""Model card content from answers to a held-out set: accuracy by question family, and a sheet of wrong answers.

python card.py "no dropping=none.jsonl" "PyramidDrop=pyramiddrop.jsonl" --data eval --sheet failures.png
"""
import argparse
import random
from pathlib import Path
from PIL import Image, ImageDraw
from canvas import font
from questions import FAMILIES
from score import read_records, said, share

PICTURE, GAP, COLUMNS = 236, 7, 4           # pixels, pixels, images per row
LINE = 18                                   # height of a text line in pixels


def family_table(truth: list[dict], answers: dict[str, dict[int, str]]) -> str:
    """Markdown table: a row per family with its first question, a column per answers file."""
    lines = ["| family | example | " + " | ".join(answers) + " | questions |", "| --- | --- |" + " --- |" * len(answers) + " ---: |"]
    for family in [*FAMILIES, None]:
        asked = [q for q in truth if family in (q["category"], None)]
        cells = [share([given[q["question_id"]] == q["answer"] for q in asked]) for given in answers.values()]
        lines.append(f"| {family or '**all**'} | {asked[0]['text'] if family else ''} | " + " | ".join(cells) + f" | {len(asked)} |")
    return "\n".join(lines)


def wrong_answers(truth: list[dict], given: dict[int, str], count: int, seed: int) -> list[dict]:
    """A random sample of wrongly answered questions, one per family."""
    wrong = [q for q in truth if given[q["question_id"]] != q["answer"]]
    random.Random(seed).shuffle(wrong)
    by_family = {q["category"]: q for q in reversed(wrong)}
    return list(by_family.values())[-count:]


def sheet(questions: list[dict], given: dict[int, str], images: Path) -> Image.Image:
    """Images in rows; below each its question, the model's answer and the expected one."""
    width, height = PICTURE + 2 * GAP, PICTURE + 2 * LINE + 4 * GAP
    page = Image.new("RGB", (COLUMNS * width, -(-len(questions) // COLUMNS) * height), "white")
    pen, face = ImageDraw.Draw(page), font("DejaVuSans", 13)
    for i, q in enumerate(questions):
        x, y = i % COLUMNS * width + GAP, i // COLUMNS * height + GAP
        page.paste(Image.open(images / q["image"]).resize((PICTURE, PICTURE)), (x, y))
        pen.text((x, y + PICTURE + 3), q["text"], fill="black", font=face)
        pen.text((x, y + PICTURE + 3 + LINE), f"{given[q['question_id']]}   (right: {q['answer']})", fill=(180, 20, 20), font=face)
    return page


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("answers", nargs="+", help="NAME=FILE of answers in LLaVA's format")
    p.add_argument("--data", type=Path, required=True, help="folder with answers.jsonl and images/")
    p.add_argument("--sheet", type=Path, help="image file for the wrong answers of the first file")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    truth = read_records(a.data / "answers.jsonl")
    answers = {name: said(read_records(Path(file))) for name, file in (each.split("=", 1) for each in a.answers)}
    print(family_table(truth, answers))
    if a.sheet:
        first = next(iter(answers.values()))
        sheet(wrong_answers(truth, first, 2 * COLUMNS, a.seed), first, a.data / "images").save(a.sheet, optimize=True)


if __name__ == "__main__":
    main()
