"""Shared functions of the example checks: questions about the sample images, an undisturbed run, a comparison."""
import json
import os
import shutil
import subprocess
import sys
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.abspath(os.environ.get("PDROP_RUN") or os.path.join(REPOSITORY, ".build", "release", "pdrop-run"))
SAMPLES = os.path.join(REPOSITORY, "Models", "samples")

IMAGES = ["bike.png", "river.png", "shapes.png"]
THINGS = ["number", "word", "colour", "shape", "letter"]
PLACES = ["top left", "top right", "bottom left", "bottom right", "middle"]


def options(folder):
    """The options of every run; without timings, equal runs give equal bytes."""
    return ["--image-folder", folder + "/images", "-n", "8", "--no-timings"]


def make_questions(folder, count):
    """Writes distinct questions in both record formats, with one blank line; every 40th names a missing image."""
    shutil.copytree(SAMPLES, folder + "/images")
    with open(folder + "/questions.jsonl", "w") as file:
        for index in range(count):
            image = "none.png" if index % 40 == 17 else IMAGES[index % 3]
            text = "What %s is at the %s? Try %d." % (THINGS[index % 5], PLACES[index // 5 % 5], index)
            if index % 7 == 3:
                parts = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": text}]
                record = {"custom_id": "r%d" % index, "body": {"messages": [{"role": "user", "content": parts}]}}
            else:
                record = {"question_id": index, "image": image, "text": text}
            file.write(json.dumps(record) + "\n")
            if index == count // 2:
                file.write("\n")


def answer_undisturbed(folder):
    """Answers all questions in one run on one machine: the reference for `compare`."""
    if not os.access(PROGRAM, os.X_OK):
        sys.exit("no program at %s; build it with make build, or set PDROP_RUN" % PROGRAM)
    start, answers = time.time(), folder + "/undisturbed.jsonl"
    run = subprocess.run(
        [PROGRAM, "--input", folder + "/questions.jsonl", "--output", answers, "--progress", "none", *options(folder)],
        stderr=subprocess.DEVNULL)
    assert run.returncode == 1, "expected status 1 for the missing images, found %d" % run.returncode
    print("undisturbed: %d records in %.0f s" % (len(lines(answers)), time.time() - start), flush=True)


def lines(path):
    with open(path, "rb") as file:
        return file.read().splitlines(keepends=True)


def compare(folder):
    """Compares union.jsonl with the answers of the undisturbed run, byte for byte and in order."""
    expected, found = lines(folder + "/undisturbed.jsonl"), lines(folder + "/union.jsonl")
    for index, (a, b) in enumerate(zip(expected, found)):
        assert a == b, "answer %d differs:\n%r\n%r" % (index + 1, a, b)
    assert len(expected) == len(found), "%d answers, expected %d" % (len(found), len(expected))
    print("equal, byte for byte: %d answers" % len(found))


def wait_until(condition, what, seconds=900):
    """The first true value of `condition()`; fails after `seconds`."""
    end = time.time() + seconds
    while time.time() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("waited %d s for %s" % (seconds, what))


def program_ids(*words):
    """The process ids of pdrop-run, without shells and launchers, whose arguments include all these words."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % name, "rb") as file:
                arguments = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue  # The process has ended.
        if arguments[0] == PROGRAM and set(words) <= set(arguments):
            found.append(int(name))
    return found
