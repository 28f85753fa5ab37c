"""Kills a batch run at random points, resumes it, and compares the answers with an undisturbed run.

    python3 Tests/Batch/kill_and_resume.py [--program .build/release/pdrop-run] [--records 2000] [--kills 20]

Requires only the Python standard library. Questions and images are read from `--eval DIR`, in the layout of
`Models/recipe/make_eval.py`; the default is the bundled evaluation set. Images repeat with different questions, and 3%
of the records are damaged in the ways listed in `DAMAGES`. Each kill waits for a random number of answered lines.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# The number of records after the last kill: more than two full batches of 16.
TAIL = 40


def truncated(path):
    data = open(path, "rb").read()
    return data[: len(data) // 2]


def flipped(path):
    data = bytearray(open(path, "rb").read())
    for i in range(40, len(data), 7):
        data[i] ^= 0x55
    return bytes(data)


def put(record, folder, data):
    """The record with its image replaced by a file with the given bytes."""
    name = "damaged-%s.png" % record["question_id"]
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)
    return {**record, "image": name}


# Each function returns the damaged record as a dictionary or a line; some write a damaged image file to the folder.
DAMAGES = {
    "missing": lambda record, folder: {**record, "image": "none.png"},
    "empty": lambda record, folder: put(record, folder, b""),
    "text": lambda record, folder: put(record, folder, b"this is not an image"),
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


def make_questions(folder, options, rng):
    """Writes the questions and their images; returns the indices of the damaged records."""
    images = os.path.join(folder, "images")
    shutil.copytree(os.path.join(options.eval, "images"), images)
    questions = [json.loads(line) for line in open(os.path.join(options.eval, "question.jsonl"))]
    questions = [rng.choice(questions) for _ in range(options.records)]
    records = [{"question_id": index, "image": q["image"], "text": q["text"]} for index, q in enumerate(questions)]
    damaged = rng.sample(range(len(records)), max(len(DAMAGES), len(records) * 3 // 100))
    for place, index in enumerate(damaged):
        records[index] = list(DAMAGES.values())[place % len(DAMAGES)](records[index], images)
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    with open(folder + "/questions.jsonl", "w") as file:
        file.write("\n".join(lines) + "\n")
    return set(damaged)


def line_count(path):
    """The number of complete lines in a file; 0 if there is no file."""
    try:
        with open(path, "rb") as file:
            return file.read().count(b"\n")
    except FileNotFoundError:
        return 0


def parsed_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", help="default: PDROP_RUN, or the release build", default=os.environ.get(
        "PDROP_RUN", os.path.join(REPOSITORY, ".build", "release", "pdrop-run")))
    parser.add_argument("--eval", default=os.path.join(REPOSITORY, "Models", "tiny-textvqa-eval"),
                        help="folder with question.jsonl and images (default: the bundled evaluation set)")
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("arguments", nargs="*", help="more options for the program, after --")
    options = parser.parse_args()
    if not os.access(options.program, os.X_OK):
        parser.error("no program at %s; build it with make build, or give --program" % options.program)
    if not os.path.exists(os.path.join(options.eval, "question.jsonl")):
        parser.error("no question.jsonl in %s; give --eval" % options.eval)
    if options.records <= TAIL + len(DAMAGES):
        parser.error("--records must be above %d" % (TAIL + len(DAMAGES)))
    return options


def main():
    options = parsed_options()
    rng = random.Random(options.seed)
    folder = tempfile.mkdtemp(prefix="pdrop-kill-")
    print("all files are in %s; they stay after a failure" % folder, flush=True)
    damaged = make_questions(folder, options, rng)

    def command(output, *more):
        return [options.program, "--input", folder + "/questions.jsonl", "--image-folder", folder + "/images",
                "-n", "8", "--no-timings", "--progress", "none", "--output", output, *more, *options.arguments]

    start = time.time()
    undisturbed = subprocess.run(command(folder + "/undisturbed.jsonl", "--report", folder + "/report.json"),
                                 stderr=subprocess.PIPE, text=True)
    seconds = time.time() - start
    if undisturbed.returncode != 1:
        sys.exit("expected status 1 for the damaged records, found %d\n%s" % (
            undisturbed.returncode, undisturbed.stderr))
    report = json.load(open(folder + "/report.json"))
    print("undisturbed: %d records in %.0f s, failed %s" % (report["records"], seconds, report["failed"]), flush=True)

    union, kills = folder + "/union.jsonl", 0
    # The number of answered lines before each kill. If a run starts with more, it is killed at once.
    for count in sorted(rng.randrange(options.records - TAIL) for _ in range(options.kills)):
        process = subprocess.Popen(command(union, "--resume"), stderr=subprocess.DEVNULL)
        while process.poll() is None and line_count(union) < count:
            time.sleep(0.005)
        # Lines are appended in groups; a delay of up to 10 answers also places kills between two appends.
        time.sleep(rng.uniform(0, 10 * seconds / options.records))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "status %d before kill %d, expected after %d of %d lines" % (
            process.returncode, kills + 1, count, options.records)
        kills += 1
    last = subprocess.run(command(union, "--resume"), stderr=subprocess.PIPE, text=True)
    print("killed %d times; the last run: %s" % (kills, last.stderr.splitlines()[0]))

    a, b = open(folder + "/undisturbed.jsonl", "rb").read(), open(union, "rb").read()
    lines = [json.loads(line) for line in b.splitlines()]
    failed = {index for index, line in enumerate(lines) if "error" in line}
    assert a == b, "the union differs from the undisturbed run"
    assert len(lines) == options.records, len(lines)
    assert failed == damaged, failed ^ damaged
    print("equal, byte for byte: %d answers, with an error for each of %d damaged records" % (len(lines), len(failed)))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
