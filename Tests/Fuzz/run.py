#!/usr/bin/env python3
"""Fuzzes the readers of untrusted bytes, one after another, and prints the number of executions of each.

usage: run.py PROGRAM WORK [--seconds N] [--runs N] [TARGET ...]

PROGRAM is pdrop-fuzz, WORK a folder for the corpora, the inputs that failed and the logs. Without TARGET, all targets
run. A run begins with the seeds of corpus.py and with the inputs in `inputs`, which failed once. It ends after N seconds
or N executions, whichever comes first, and at the first input that fails. Exits with 0 only if no input failed.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys

import corpus

HERE = pathlib.Path(__file__).resolve().parent
# The longest inputs: short ones run more often, and have room for whatever a reader does. Files that are long even when
# small have more.
LENGTH = 1024
LENGTHS = {
    "config": 2048, "gguf-model": 12288, "gguf-tokenizer": 8192, "jpeg": 2048, "pickle": 2048, "png": 2048,
    "records": 512, "safetensors": 2048, "sentencepiece": 4096, "text": 256, "tokenizer-config": 4096,
    "tokenizer-json": 4096, "torch": 4096, "webp": 2048}
# Seconds of wall time after which an input counts as a hang: many, as a busy machine stops the fuzzer for a while. MiB of
# memory after which it counts as too large. Images of the maximum number of pixels take more of both.
TIMEOUT = 60
TIMEOUTS = {"jpeg": 180, "png": 180, "webp": 180}
MEMORY = {"jpeg": 4096, "png": 4096, "webp": 4096}


def fuzz(program, work, target, seconds, runs):
    """Runs a target.

    Returns the exit status and the number of executions.
    """
    folders = {name: work / name / target for name in ("corpus", "failed")}
    for folder in [*folders.values(), work / "logs"]:
        folder.mkdir(parents=True, exist_ok=True)
    inputs = [str(p) for p in [work / "seeds" / target, HERE / "inputs" / target] if p.is_dir()]
    options = [
        f"-max_len={LENGTHS.get(target, LENGTH)}", f"-timeout={TIMEOUTS.get(target, TIMEOUT)}", f"-runs={runs}",
        f"-rss_limit_mb={MEMORY.get(target, 2048)}", f"-max_total_time={seconds}", "-print_final_stats=1",
        f"-artifact_prefix={folders['failed']}/"]
    environment = os.environ | {
        "SWIFT_BACKTRACE": "enable=no",
        # Without the stacks of allocations, a run makes up to half as many executions more.
        "ASAN_OPTIONS": "malloc_context_size=0:quarantine_size_mb=16:allocator_may_return_null=1:"
                        + os.environ.get("ASAN_OPTIONS", "")}
    log = work / "logs" / f"{target}.log"
    with open(log, "wb") as output:
        status = subprocess.run(
            [program, target, *options, str(folders["corpus"]), *inputs], stdout=output, stderr=subprocess.STDOUT,
            env=environment).returncode
    text = log.read_text(errors="replace")
    count = re.search(r"number_of_executed_units: (\d+)", text)
    print(f"{target:18} {int(count[1]) if count else 0:>12,} executions{'' if status == 0 else '  FAILED'}", flush=True)
    if status:
        print("\n".join(line[:300] for line in text.splitlines()[-40:]), flush=True)
        print(f"log: {log}", flush=True)
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    arguments = parser.parse_intermixed_args()
    program = arguments.program.resolve()
    names = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    if unknown := set(arguments.targets) - set(names):
        sys.exit(f"no target {', '.join(sorted(unknown))}; the targets are {', '.join(names)}")
    corpus.write(arguments.work / "seeds")
    statuses = [
        fuzz(program, arguments.work, target, arguments.seconds, arguments.runs)
        for target in arguments.targets or names]
    sys.exit(1 if any(statuses) else 0)


if __name__ == "__main__":
    main()
