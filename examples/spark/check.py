"""Runs answer.py on a Spark cluster of two executors on one machine, disturbs it, and compares with an undisturbed run.

    .build-spark/bin/python examples/spark/check.py       (make example-spark installs PySpark and builds first)
    python3 examples/spark/check.py --no-cluster          (two partitions without Spark; the first is disturbed)

Waits until each executor has a partition in the middle. Then the pdrop-run of one executor is killed with SIGKILL, and
the other executor. PDROP_RUN is the program to run, by default the release build.
"""
import argparse
import glob
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from check_support import (PROGRAM, answer_undisturbed, compare, lines, make_questions, options,  # noqa: E402
                           program_ids, wait_until)

RECORDS, PARTITIONS = 400, 4
# The number of bytes written by a process after about 10 of its 100 records.
MIDDLE = 5_000


def written(process):
    """The number of bytes that a process has written, pipes included; 0 if it has ended."""
    try:
        with open("/proc/%d/io" % process) as file:
            return int(file.read().split("wchar:")[1].split()[0])
    except OSError:
        return 0


def executor_of(process):
    """The process id of the executor of a worker: its nearest Java ancestor."""
    while True:
        with open("/proc/%d/stat" % process) as file:
            process = int(file.read().rpartition(")")[2].split()[1])
        with open("/proc/%d/cmdline" % process, "rb") as file:
            if b"CoarseGrainedExecutorBackend" in file.read():
                return process


def workers(folder):
    return program_ids(folder + "/images")


def disturb(folder, job):
    """Kills the worker of one executor, and the other executor."""
    stopped = {}  # From executor to worker.

    def stop_in_the_middle():
        assert job.poll() is None, "the job ended with status %d" % job.returncode
        for worker in workers(folder):
            # Stopped, so that a fast model does not finish the partition while the other executor gets to its middle.
            if written(worker) > MIDDLE and (executor := executor_of(worker)) not in stopped:
                os.kill(worker, signal.SIGSTOP)
                stopped[executor] = worker
        return len(stopped) == 2

    wait_until(stop_in_the_middle, "a partition in the middle on each executor")
    (first, killed), (second, orphan) = stopped.items()
    for worker in [killed, orphan]:
        assert MIDDLE < written(worker) < 5 * MIDDLE, "pdrop-run %d was not in the middle: %d bytes" % (
            worker, written(worker))
    os.kill(killed, signal.SIGKILL)
    print("killed pdrop-run %d of executor %d" % (killed, first), flush=True)
    # Spark loses the counts of tasks on a dead executor, so this is the other one.
    os.kill(second, signal.SIGKILL)
    os.kill(orphan, signal.SIGCONT)
    wait_until(lambda: not {killed, orphan} & set(workers(folder)), "the end of both processes")
    print("killed executor %d, and with it pdrop-run %d" % (second, orphan), flush=True)


def run(folder):
    make_questions(folder, RECORDS)
    answer_undisturbed(folder)
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    with open(folder + "/spark.log", "w") as log:
        job = subprocess.Popen(
            [os.path.join(os.path.dirname(sys.executable), "spark-submit"), "--master", "local-cluster[2,1,1024]",
             HERE + "/answer.py", folder + "/questions.jsonl", folder + "/answers", "--partitions", str(PARTITIONS),
             "--", PROGRAM, *options(folder)],
            env=environment, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder)
    try:
        disturb(folder, job)
        output = job.communicate(timeout=900)[0]
    finally:
        job.terminate()
        job.wait()
    assert job.returncode == 0, "the job ended with status %d, see %s/spark.log" % (job.returncode, folder)
    print("  " + output.strip().replace("\n", "\n  "))
    assert "died: 0" not in output, output
    parts = sorted(glob.glob(folder + "/answers/part-*"))
    assert len(parts) >= PARTITIONS, parts
    with open(folder + "/union.jsonl", "wb") as file:
        for part in parts:
            file.writelines(lines(part))
    compare(folder)
    wait_until(lambda: not workers(folder), "the end of all processes")


def run_without_spark(folder):
    """Answers two partitions with answer_partition alone, and kills the first one's process after 10 answers."""
    from answer import WINDOW, answer_partition

    make_questions(folder, 160)
    answer_undisturbed(folder)
    numbered = [(line.decode().rstrip("\n"), index) for index, line in enumerate(lines(folder + "/questions.jsonl"))]
    half, deaths = len(numbered) // 2, []
    # The process is not sent more than WINDOW records ahead, so it cannot end before the kill.
    assert half > 10 + WINDOW
    with open(folder + "/union.jsonl", "w") as file:
        for part in [numbered[:half], numbered[half:]]:
            answers = answer_partition(part, [PROGRAM, *options(folder)], deaths.append)
            for index, answer in enumerate(answers):
                file.write(answer + "\n")
                if part[0][1] == 0 and index == 9:
                    os.kill(workers(folder)[0], signal.SIGKILL)
    assert len(deaths) == 1, "expected one death, found %d" % len(deaths)
    compare(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-cluster", action="store_true", help="answer two partitions without Spark")
    arguments = parser.parse_args()
    missing = [] if shutil.which("java") else ["java"]
    missing += [] if importlib.util.find_spec("pyspark") else ["pyspark"]
    if missing and not arguments.no_cluster:
        sys.exit("%s not found; make example-spark installs Spark, --no-cluster runs without it" % ", ".join(missing))
    # A terminated check stops Spark as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="pdrop-spark-")
    print("all files are in %s; they stay after a failure" % folder, flush=True)
    (run_without_spark if arguments.no_cluster else run)(folder)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
