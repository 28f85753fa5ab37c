"""Checks a pdrop-serve program over HTTP: routes, answers, streams, errors, faults and security.

    python check.py PDROP_SERVE PDROP_RUN [--only WORD] [--damaged FOLDER ...]

The standard library is enough. With jsonschema from PyPI, answers are also validated against docs/openapi.json.
PDROP_MODELS is the folder of the bundled models, by default Models of this checkout.
"""
import argparse
import contextlib
import pathlib
import sys
import time
import traceback

# The checks register themselves, in this order.
import check_answers  # noqa: F401
import check_errors  # noqa: F401
import check_faults  # noqa: F401
import check_security  # noqa: F401
import check_document  # noqa: F401
from checks import CHECKS
from server import ROOT, Server


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pdrop_serve")
    parser.add_argument("pdrop_run")
    parser.add_argument("--only", default="", help="run only checks with this word in their names")
    parser.add_argument("--fixtures", type=pathlib.Path, default=ROOT / "Tests/Fixtures/images")
    parser.add_argument("--damaged", type=pathlib.Path, nargs="*", default=[], help="more folders of images to send")
    arguments = parser.parse_args()

    start = time.monotonic()
    groups = {}
    for options, function in CHECKS:
        if arguments.only in function.__name__:
            groups.setdefault(options, []).append(function)
    failed = [function for options, functions in groups.items() for function in run(options, functions, arguments)]
    total = sum(map(len, groups.values()))
    print(f"{total - len(failed)} of {total} checks passed in {time.monotonic() - start:.0f} s")
    sys.exit(bool(failed))


def run(options, functions, arguments):
    """Runs checks, with one server for all of them as long as it lives, and yields those that fail."""
    with contextlib.ExitStack() as stack:
        server = None
        for function in functions:
            if server is None or server.process.poll() is not None:
                server = stack.enter_context(Server(arguments.pdrop_serve, *options))
                server.program, server.pdrop_run = arguments.pdrop_serve, arguments.pdrop_run
                server.fixtures, server.damaged = arguments.fixtures, arguments.damaged
            start = time.monotonic()
            failure = failure_of(function, server)
            name, seconds = function.__name__.replace("_", " "), time.monotonic() - start
            print(f"{name}: {f'FAILED: {failure}' if failure else 'ok'} ({seconds:.1f} s)", flush=True)
            if failure:
                # What the check left behind must not disturb the next one.
                server.process.kill()
                server.process.wait()
                yield function


def failure_of(function, server):
    """What is wrong, with the lines of the check; `None` if nothing is."""
    try:
        function(server)
    except Exception as error:  # pylint: disable=broad-except
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if pathlib.Path(frame.filename).name.startswith("check_")]
        failure = f"{type(error).__name__}: {str(error)[:600]} (line {lines[-1] if lines else '?'})"
        return failure if server.process.poll() is None else f"{failure}; {ending(server)}"
    return None if server.process.poll() in (None, 0) else ending(server)


def ending(server):
    return f"the server ended with {server.process.returncode}: {server.lines[-3:]}"


if __name__ == "__main__":
    main()
