"""Kills a batch at random moments, resumes it, and compares the answers with those of an undisturbed run.

    python3 Tests/Batch/kill_and_resume.py [--program .build/release/pdrop-run] [--records 2000] [--kills 20]

Pictures and questions are those of `--eval DIR`, as `Models/recipe/make_eval.py` writes it, or are drawn; pictures are
repeated with different questions, and 3 % of the records are damaged in every way of `DAMAGES`. Needs Pillow.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

from PIL import Image, ImageDraw

HERE = os.path.dirname(os.path.abspath(__file__))
COLOURS = ["red", "green", "blue", "yellow", "black", "white"]


def truncated(path):
    data = open(path, "rb").read()
    return data[: len(data) // 2]


# Each writes a file beside a sound picture and returns what its record is to be.
DAMAGES = {
    "missing": lambda record, folder: {**record, "image": "none.png"},
    "empty": lambda record, folder: put(record, folder, b""),
    "text": lambda record, folder: put(record, folder, b"this is no picture"),
    "truncated": lambda record, folder: put(record, folder, truncated(os.path.join(folder, record["image"]))),
    "header only": lambda record, folder: put(record, folder, b"\x89PNG\r\n\x1a\n"),
    "flipped": lambda record, folder: put(record, folder, flipped(os.path.join(folder, record["image"]))),
    "GIF": lambda record, folder: put(record, folder, b"GIF89a" + bytes(64)),
    "folder": lambda record, folder: {**record, "image": "."},
    "remote": lambda record, folder: {**record, "image": "https://example.org/a.png"},
    "bad base64": lambda record, folder: {**record, "image": "data:image/png;base64,%%%"},
    "torn line": lambda record, folder: json.dumps(record)[:-20],
    "no text": lambda record, folder: {k: v for k, v in record.items() if k != "text"},
    "wrong type": lambda record, folder: {**record, "text": 5},
    "too long": lambda record, folder: {**record, "text": "one two " * 5000},
    "no name": lambda record, folder: {k: v for k, v in record.items() if k != "question_id"},
}


def flipped(path):
    data = bytearray(open(path, "rb").read())
    for i in range(40, len(data), 7):
        data[i] ^= 0x55
    return bytes(data)


def put(record, folder, data):
    name = "damaged-%s.png" % record["question_id"]
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)
    return {**record, "image": name}


def make_pictures(folder, rng):
    """Draws pictures and asks about them, for machines without the bundled model's evaluation set."""
    questions = []
    for index in range(40):
        name = "%02d.png" % index
        picture = Image.new("RGB", (rng.randint(200, 500), rng.randint(200, 500)), rng.choice(COLOURS))
        draw = ImageDraw.Draw(picture)
        for _ in range(6):
            x, y = rng.randint(0, 400), rng.randint(0, 400)
            draw.rectangle((x, y, x + rng.randint(10, 90), y + rng.randint(10, 90)), fill=rng.choice(COLOURS))
        picture.save(os.path.join(folder, name))
        questions += [{"image": name, "text": "How many %s squares are there?" % colour} for colour in COLOURS]
    return questions


def make_questions(folder, options, rng):
    """Writes the questions, pictures repeated; returns how many, and the indices of those that are damaged."""
    images = os.path.join(folder, "images")
    if options.eval:
        shutil.copytree(os.path.join(options.eval, "images"), images)
        questions = [json.loads(line) for line in open(os.path.join(options.eval, "question.jsonl"))]
    else:
        os.makedirs(images)
        questions = make_pictures(images, rng)
    questions = [rng.choice(questions) for _ in range(options.records)]
    records = [{"question_id": index, "image": q["image"], "text": q["text"]} for index, q in enumerate(questions)]
    damaged = rng.sample(range(len(records)), max(len(DAMAGES), len(records) * 3 // 100))
    for place, index in enumerate(damaged):
        records[index] = list(DAMAGES.values())[place % len(DAMAGES)](records[index], images)
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    with open(folder + "/questions.jsonl", "w") as file:
        file.write("\n".join(lines) + "\n")
    return set(damaged)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=os.path.join(HERE, "..", "..", ".build", "release", "pdrop-run"))
    parser.add_argument("--eval", help="folder with question.jsonl and images")
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("arguments", nargs="*", help="more options for the program, behind --")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    folder = tempfile.mkdtemp(prefix="pdrop-kill-")
    damaged = make_questions(folder, options, rng)

    def command(output, *more):
        return [options.program, "--input", folder + "/questions.jsonl", "--image-folder", folder + "/images",
                "-n", "8", "--no-timings", "--progress", "none", "--output", output, *more, *options.arguments]

    start = time.time()
    whole = subprocess.run(command(folder + "/whole.jsonl", "--report", folder + "/report.json"),
                           stderr=subprocess.DEVNULL)
    seconds = time.time() - start
    assert whole.returncode == 1, whole.returncode
    report = json.load(open(folder + "/report.json"))
    print("undisturbed: %d records in %.0f s, failed %s" % (report["records"], seconds, report["failed"]))

    union, kills = folder + "/union.jsonl", 0
    while kills < options.kills:
        process = subprocess.Popen(command(union, "--resume"), stderr=subprocess.DEVNULL)
        # About a share of the work that the kills leave, so that all of them come before the end.
        time.sleep(rng.uniform(0, 2 * 0.8 * seconds / options.kills))
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            break
        kills += 1
    last = subprocess.run(command(union, "--resume"), stderr=subprocess.PIPE, text=True)
    print("killed %d times; the last run: %s" % (kills, last.stderr.splitlines()[0]))

    a, b = open(folder + "/whole.jsonl", "rb").read(), open(union, "rb").read()
    lines = [json.loads(line) for line in b.splitlines()]
    failed = {index for index, line in enumerate(lines) if "error" in line}
    assert a == b, "the union differs from the undisturbed run"
    assert len(lines) == options.records, len(lines)
    assert failed == damaged, failed ^ damaged
    assert kills == options.kills, "the batch ended before the last kill; use more records"
    print("equal, byte for byte: %d answers, %d of them errors, one for each damaged record" % (len(lines), len(failed)))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
