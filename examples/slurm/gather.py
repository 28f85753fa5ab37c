"""Merges the answers of all shards into one file in the order of the questions; reports missing answers.

    python3 gather.py questions.jsonl answers.jsonl answers/*-of-64.jsonl

Exits with status 1, without writing the file, if answers are missing or belong to other questions. Needs memory for at
most one shard, independent of their number. Questions cut from a longer file need the --first-line of their run.
"""
import argparse
import heapq
import json
import os
import resource
import sys
import tempfile


def number(line):
    """The input line number of an answer."""
    answer = json.loads(line)
    return int(answer["answer_id"] if "answer_id" in answer else answer["id"].removeprefix("pdrop-"))


def answers(path):
    """The answers of a shard with their line numbers, ascending; --retry-failed appends some out of order."""
    lines, previous = open(path, "rb"), 0
    for line in lines:
        if not line.endswith(b"\n"):
            sys.exit("%s ends within an answer; run its task again" % path)
        if number(line) < previous:
            lines.seek(0)
            ordered = tempfile.TemporaryFile()
            ordered.writelines(sorted(lines, key=number))
            lines = ordered
            break
        previous = number(line)
    lines.seek(0)
    return ((number(line), line) for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions")
    parser.add_argument("output")
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--first-line", type=int, default=1)
    options = parser.parse_args()
    # Every shard is kept open.
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    merged = heapq.merge(*map(answers, options.shards))
    found, missing, errors = next(merged, None), [], 0
    part = options.output + ".part"
    with open(options.questions, "rb") as lines, open(part, "wb") as file:
        for index, line in enumerate(lines, options.first_line):
            if not line.strip(b" \t\r\n"):
                continue
            if found is None or found[0] > index:
                missing.append(index)
                continue
            if found[0] < index:
                break
            file.write(found[1])
            errors += bool(json.loads(found[1]).get("error"))
            found = next(merged, None)
        file.flush()
        os.fsync(file.fileno())
    problems = []
    if missing:
        problems.append("%d answers are missing, the first one to line %d" % (len(missing), missing[0]))
    if found is not None:
        problems.append("line %d has more than one answer, or is not a question" % found[0])
    if problems:
        os.remove(part)
        sys.exit("\n".join(problems))
    os.replace(part, options.output)
    print("all questions answered, %d of them by an error record" % errors)


if __name__ == "__main__":
    main()
