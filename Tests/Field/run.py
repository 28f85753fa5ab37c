#!/usr/bin/env python3
"""Runs the field cases: small inputs that users reported, each with a machine check of what they should get.

usage: run.py [--bin DIR] [--models DIR] [--limit SECONDS] [CASES] [--only PREFIX ...]

CASES is a folder of case folders (default: `cases` beside this file). `cmd` of a case runs with bash in a temporary
copy of its folder, and the check of the same name in expectations.py looks at the result. Prints a table and the count.
Exits with 0 only if all cases pass; a case that this machine cannot run counts as skipped, which is no pass but no
failure either.
"""

import argparse
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from expectations import CHECKS, Skipped, Unmet

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
CRASHES = re.compile(r"Fatal error|Backtracing from|Program crashed|Segmentation fault|Bus error|Aborted|core dumped")

@dataclasses.dataclass
class Run:
    """The result of a command."""

    out: str
    err: str
    status: int
    timed_out: bool
    seconds: float
    # Processor time and peak memory of the command and its children.
    processor_seconds: float
    peak_bytes: int

    @property
    def text(self):
        return self.out + self.err

    @property
    def lines(self):
        return self.text.splitlines()

    @property
    def errors(self):
        """The lines that begin with `error:`."""
        return [line for line in self.lines if line.startswith("error:")]


class Case:
    """A case in a temporary copy of its folder."""

    def __init__(self, source, folder, environment, limit):
        self.source, self.folder, self.environment, self.limit = source, folder, environment, limit
        self.command = (source / "cmd").read_text()

    def copy(self):
        """Copies the case; links become files, and files of a read-only folder become writable."""
        shutil.copytree(self.source, self.folder)
        make_writable(self.folder)

    def path(self, name):
        return self.folder / name

    def sibling(self, case, name):
        """A copy of a file or folder of another case, in this case's folder."""
        source, target = self.source.parent / case / name, self.folder / f"{case}-{pathlib.Path(name).name}"
        if not target.exists():
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
            make_writable(target)
        return target.name

    def reference(self, name):
        """A copy of a file of `references`, in this case's folder."""
        shutil.copy(HERE / "references" / name, self.folder / name)
        return name

    def golden(self, model):
        """The path of a golden model."""
        for folder in (REPOSITORY / "Tests/Goldens/models", self.source.parent.parent / "goldens/models"):
            if (folder / model).is_dir():
                return folder / model
        raise Skipped(f"no golden model {model}")

    def run(self, command=None, limit=None):
        """The result of a command, by default the case's, in the case's folder."""
        limit = limit or self.limit
        start = time.monotonic()
        child = subprocess.Popen(
            ["bash", "-c", command or self.command], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        outputs, readers = {}, []
        for stream in (child.stdout, child.stderr):
            outputs[stream] = []
            reader = threading.Thread(target=lambda s=stream: outputs[s].append(s.read()), daemon=True)
            reader.start()
            readers.append(reader)
        timed_out = threading.Event()

        def stop():
            timed_out.set()
            kill(child.pid)

        timer = threading.Timer(limit, stop)
        timer.start()
        _, status, usage = os.wait4(child.pid, 0)
        timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        # A background process of the command may still hold the pipes.
        for reader in readers:
            reader.join(2)
        kill(child.pid)
        for reader in readers:
            reader.join(2)
        out, err = (b"".join(outputs[s]).decode("utf-8", "replace") for s in (child.stdout, child.stderr))
        result = Run(
            out, err, child.returncode, timed_out.is_set(), seconds, usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        if result.timed_out:
            raise Unmet(f"not finished after {limit:.0f} s: {(command or self.command).strip()[:60]}")
        if crash := CRASHES.search(result.text):
            raise Unmet(f"crashed: {crash[0]}")
        return result


def make_writable(path):
    subprocess.run(["chmod", "-R", "u+w", path], check=True)


def kill(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def environment(programs, models, shims):
    """PATH with the programs, PDROP_MODELS, and a small `xxd` where the machine has none."""
    result = {k: v for k, v in os.environ.items() if not k.startswith(("PDROP_", "OMP_", "OPENBLAS_"))}
    result |= {"PATH": f"{programs}:{result['PATH']}", "PDROP_MODELS": str(models), "LC_ALL": "C.UTF-8"}
    if not shutil.which("xxd"):
        tool = shims / "xxd"
        tool.write_text("#!/usr/bin/env python3\nimport sys\nprint(sys.stdin.buffer.read().hex())\n")
        tool.chmod(0o755)
        result["PATH"] += f":{shims}"
    return result


def check(source, programs, models, limit):
    """The result of a case as a word and an explanation."""
    expectation = CHECKS.get(source.name)
    if not expectation:
        return "FAIL", "no check in expectations.py"
    with tempfile.TemporaryDirectory(prefix="field-") as parent:
        shims = pathlib.Path(parent) / "shims"
        shims.mkdir()
        # The folder has another name than the case, so that no message can match a check by its path.
        case = Case(source, pathlib.Path(parent) / "case", environment(programs, models, shims), limit)
        case.copy()
        try:
            return "pass", expectation(case) or ""
        except Skipped as reason:
            return "skip", str(reason)
        except Unmet as reason:
            return "FAIL", str(reason)
        except Exception as error:
            return "FAIL", f"unexpected output ({type(error).__name__}: {error})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="?", type=pathlib.Path, default=HERE / "cases")
    parser.add_argument("--bin", type=pathlib.Path, default=REPOSITORY / ".build/release", metavar="DIR")
    parser.add_argument("--models", type=pathlib.Path, default=REPOSITORY / "Models", metavar="DIR")
    parser.add_argument("--limit", type=float, default=60, help="seconds a command of a case may run")
    parser.add_argument("--only", nargs="+", default=[""], metavar="PREFIX", help="only the cases of these names")
    arguments = parser.parse_intermixed_args()
    if not (arguments.bin / "pdrop-run").exists():
        sys.exit(f"{arguments.bin} has no pdrop-run; build the programs with `make build`")
    cases = sorted(p.parent for p in arguments.cases.resolve().glob("*/cmd") if p.parent.name.startswith(tuple(arguments.only)))
    counts = {"pass": 0, "FAIL": 0, "skip": 0}
    for source in cases:
        start = time.monotonic()
        word, text = check(source, arguments.bin.resolve(), arguments.models.resolve(), arguments.limit)
        counts[word] += 1
        text = " ".join(text.split())
        print(f"{word:5} {source.name:32} {time.monotonic() - start:5.1f} s  {text[:200]}", flush=True)
    skipped = f", {counts['skip']} skipped" if counts["skip"] else ""
    print(f"{counts['pass']} of {len(cases)} field cases pass{skipped}")
    sys.exit(1 if counts["FAIL"] or not cases else 0)


if __name__ == "__main__":
    main()
