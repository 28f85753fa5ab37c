"""Runs answer.py on a Spark cluster of two executors on one machine, disturbs it, and compares with an undisturbed run.

    .build/spark/bin/python examples/spark/check.py        (make example-spark installs PySpark and builds first)

In the middle, one partition's pdrop-run is killed with SIGKILL, and later the executor of another, with all that it runs.
"""
import glob
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

RECORDS, PARTITIONS = 200, 4
# A process that has written so much has answered about 10 of its 50 records.
MIDDLE = 5_000


def written(process):
    """The bytes that a process has written, to pipes as well; 0 for one that has ended."""
    try:
        with open("/proc/%d/io" % process) as file:
            return int(file.read().split("wchar:")[1].split()[0])
    except OSError:
        return 0


def executor_of(process):
    """The executor that a process works for, which is the nearest Java above it."""
    while True:
        with open("/proc/%d/stat" % process) as file:
            process = int(file.read().rpartition(")")[2].split()[1])
        with open("/proc/%d/cmdline" % process, "rb") as file:
            if b"CoarseGrainedExecutorBackend" in file.read():
                return process


def workers(folder):
    return program_ids(folder + "/images")


def worker_in_the_middle(folder, job, besides=None):
    """A pdrop-run in the middle of its partition, and its executor."""
    def find():
        assert job.poll() is None, "the job ended with status %d" % job.returncode
        found = [(p, executor_of(p)) for p in workers(folder) if MIDDLE < written(p) < 2 * MIDDLE]
        return next((pair for pair in found if pair[1] != besides), None)
    return wait_until(find, "a pdrop-run in the middle of its partition")


def disturb(folder, job):
    worker, executor = worker_in_the_middle(folder, job)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in workers(folder), "its end")
    print("killed pdrop-run %d of executor %d" % (worker, executor), flush=True)
    # Spark forgets what tasks counted whose executor dies, so we leave the first one alone.
    worker, executor = worker_in_the_middle(folder, job, besides=executor)
    os.kill(executor, signal.SIGKILL)
    wait_until(lambda: worker not in workers(folder), "the end of what it ran")
    print("killed executor %d, and with it pdrop-run %d" % (executor, worker), flush=True)


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
        said = job.communicate(timeout=900)[0]
    finally:
        job.terminate()
        job.wait()
    assert job.returncode == 0, "the job ended with status %d, see %s/spark.log" % (job.returncode, folder)
    print("  " + said.strip().replace("\n", "\n  "))
    assert "died: 0" not in said
    parts = sorted(glob.glob(folder + "/answers/part-*"))
    assert len(parts) >= PARTITIONS, parts
    with open(folder + "/union.jsonl", "wb") as file:
        for part in parts:
            file.writelines(lines(part))
    compare(folder)
    wait_until(lambda: not workers(folder), "the end of all processes")


def main():
    # Spark is stopped then as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="pdrop-spark-")
    print("all files, after a failure too, are in " + folder, flush=True)
    run(folder)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
