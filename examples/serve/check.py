#!/usr/bin/env python3
"""Checks the service, the Dockerfile and nginx.conf against the program and the repository, without running them.

    python3 examples/serve/check.py PROGRAM

PROGRAM is pdrop-serve. `systemd-analyze verify` checks the service too, if it is installed.
"""
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

FOLDER = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(FOLDER))
# Packages of the container beside the libraries: for the health check, and for images of https sites.
TOOLS = {"curl", "ca-certificates"}
INSTRUCTIONS = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "STOPSIGNAL", "USER",
    "VOLUME", "WORKDIR"}
errors = []


def check(condition, message):
    if not condition:
        errors.append(message)


def read(*path):
    with open(os.path.join(*path)) as file:
        return file.read()


def logical_lines(text):
    """Lines without comments, with continuations joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


class Help:
    """The options that the program has."""

    def __init__(self, program):
        run = subprocess.run([program, "--help"], capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit("%s --help: status %d\n%s" % (program, run.returncode, run.stderr))
        self.text = " ".join(run.stdout.split())
        self.options = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", self.text))

    def check(self, arguments, place):
        for argument in arguments:
            if argument.startswith("-"):
                name = argument.split("=")[0]
                check(name in self.options, "%s: pdrop-serve has no option %s" % (place, name))

    def number(self, option):
        """The default of an option, such as 600 or 64MiB."""
        found = re.search(re.escape(option) + r" <[\w-]+> [^()]*\(default: (\d+)", self.text)
        check(found, "pdrop-serve --help has no default of %s" % option)
        return int(found[1]) if found else 0


def check_service(program, help):
    name = "pdrop-serve.service"
    settings, section = {}, None
    for line in logical_lines(read(FOLDER, name)):
        if re.fullmatch(r"\[(Unit|Service|Install)\]", line):
            section = line[1:-1]
            continue
        key, separator, value = line.partition("=")
        check(section and separator and re.fullmatch(r"[A-Za-z]+", key), "%s: unreadable: %s" % (name, line))
        settings.setdefault((section, key), []).append(value)

    command = shlex.split(settings[("Service", "ExecStart")][0])
    check(os.path.basename(command[0]) == "pdrop-serve", "%s: ExecStart is not pdrop-serve" % name)
    help.check(command[1:], name)
    for value in settings[("Service", "Environment")]:
        help.check(shlex.split(value.partition("=")[2]), name)
    check(
        int(settings[("Service", "TimeoutStopSec")][0]) > help.number("--timeout"),
        "%s: TimeoutStopSec is not above the default of --timeout" % name)

    analyze = shutil.which("systemd-analyze")
    if not analyze:
        print("not checked: systemd-analyze is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        with open(path, "w") as file:
            # The program need not be installed.
            file.write(read(FOLDER, name).replace("ExecStart=" + command[0], "ExecStart=" + os.path.abspath(program)))
        run = subprocess.run([analyze, "verify", "--man=no", path], capture_output=True, text=True)
        output = "\n".join(line for line in (run.stdout + run.stderr).splitlines() if name in line)
        check(run.returncode == 0 and not output, "systemd-analyze verify: status %d\n%s" % (run.returncode, output))


def check_dockerfile(help):
    makefile = read(REPOSITORY, "Makefile")
    build_packages = re.search(r"^DEBIAN_PACKAGES = (.*)$", makefile, re.M)[1].split()
    run_packages = re.search(r"Debian: apt-get install (.*)$", makefile, re.M)[1].split()
    run_packages.append(re.search(r"Debian 12: (\w+)", makefile)[1])

    stages, names = [], set()
    for line in logical_lines(read(FOLDER, "Dockerfile")):
        instruction, _, rest = line.partition(" ")
        check(instruction in INSTRUCTIONS, "Dockerfile: the instruction %s is not known" % instruction)
        if instruction == "FROM":
            stages.append([])
            if " AS " in rest:
                names.add(rest.split(" AS ")[1])
        stages[-1].append((instruction, rest))
    check(len(stages) == 2, "Dockerfile: expected two stages, found %d" % len(stages))
    build, run = stages

    tools_version = re.match(r"// swift-tools-version: *([\d.]+)", read(REPOSITORY, "Package.swift"))[1]
    image_version = re.match(r"swift:([\d.]+)-bookworm ", build[0][1])[1]
    check(
        [int(x) for x in image_version.split(".")] >= [int(x) for x in tools_version.split(".")],
        "Dockerfile: Swift %s is older than that of Package.swift, %s" % (image_version, tools_version))

    for stage, expected, allowed in [(build, build_packages, set()), (run, run_packages, TOOLS)]:
        found = set()
        for instruction, rest in stage:
            if instruction == "RUN":
                for packages in re.findall(r"apt-get install ([^&]*)", rest):
                    found |= {word for word in packages.split() if not word.startswith("-")}
        check(
            found - allowed == set(expected),
            "Dockerfile: packages %s; expected %s" % (" ".join(sorted(found - allowed)), " ".join(sorted(expected))))

    for instruction, rest in build + run:
        if instruction != "COPY":
            continue
        words = rest.split()
        if words[0].startswith("--from="):
            check(words[0][len("--from="):] in names, "Dockerfile: COPY %s: no such stage" % words[0])
            continue
        for source in words[:-1]:
            check(os.path.exists(os.path.join(REPOSITORY, source)), "Dockerfile: COPY %s: no such file" % source)
    # Package.swift is refused if the folder of a target is missing.
    copied = [rest.split()[0] for instruction, rest in build if instruction == "COPY"]
    for path in re.findall(r'path: "([^"]+)"', read(REPOSITORY, "Package.swift")) + ["Sources", "Tests"]:
        if not path.startswith(".."):
            check(
                any(path == each or path.startswith(each + "/") for each in copied),
                "Dockerfile: the folder %s of Package.swift is not copied" % path)

    last = dict(run)
    check(last.get("USER") not in (None, "root", "0"), "Dockerfile: runs as root")
    check("HEALTHCHECK" in last, "Dockerfile: no HEALTHCHECK")
    entry = json.loads(last["ENTRYPOINT"])
    check(entry[0] == "pdrop-serve", "Dockerfile: ENTRYPOINT is not pdrop-serve")
    help.check(entry[1:], "Dockerfile")
    port = dict(zip(entry, entry[1:])).get("--port")
    check(last.get("EXPOSE") == port and ":%s/health" % port in last.get("HEALTHCHECK", ""), "Dockerfile: ports differ")


def check_nginx(help):
    text = read(FOLDER, "nginx.conf")
    timeout = int(re.search(r"proxy_read_timeout (\d+)s;", text)[1])
    check(timeout > help.number("--timeout"), "nginx.conf: proxy_read_timeout is not above the default of --timeout")
    size = int(re.search(r"client_max_body_size (\d+)m;", text)[1])
    check(size > help.number("--body-limit"), "nginx.conf: client_max_body_size is not above that of --body-limit")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    help = Help(sys.argv[1])
    check_service(sys.argv[1], help)
    check_dockerfile(help)
    check_nginx(help)
    if errors:
        sys.exit("\n".join(errors))
    print("examples/serve: the service, the Dockerfile and nginx.conf fit the program and the repository")


main()
