"""Answers a file of questions with Spark; each partition runs its own pdrop-run.

    spark-submit --conf spark.task.cpus=8 answer.py questions.jsonl answers --partitions 1000 \\
        -- pdrop-run -m DIR --image-folder images --ram 12GiB

The program and its options follow --. Every executor needs the program, the model and the images under these paths.
One process with spark.task.cpus threads answers all records of a partition. If it dies, a new process gets the records
that are not answered yet; if an executor dies, Spark repeats its partitions. Either way `cat answers/part-*` has the
answer to each record once, in the order of the questions.

An executor that dies loses the partitions it has begun, so a partition should take a few minutes. A job that fails
loses all answers, as Spark commits them at its end, so a job should take a few hours.
"""
import argparse
import collections
import queue
import subprocess
import sys
import threading

# Records sent to a process and not answered yet: more than two batches of 16.
WINDOW = 64
# The partition fails after this number of deaths without an answer in between; its next record is the likely cause.
MAX_DEATHS = 3


class Worker:
    """A pdrop-run process that reads records and writes answers, in the same order."""

    def __init__(self, command, first_line):
        self.process = subprocess.Popen(
            [*command, "--input", "-", "--output", "-", "--first-line", str(first_line), "--progress", "none"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.unsent = queue.SimpleQueue()
        # On a thread, as the process may write before it has read everything.
        threading.Thread(target=self._send, daemon=True).start()

    def _send(self):
        try:
            while (line := self.unsent.get()) is not None:
                self.process.stdin.write(line.encode() + b"\n")
                self.process.stdin.flush()
            self.process.stdin.close()
        except OSError:
            pass  # The process has died; read() returns None.

    def send(self, line):
        self.unsent.put(line)

    def read(self):
        """The next answer, or None when the process has died."""
        answer = self.process.stdout.readline()
        return answer[:-1].decode() if answer.endswith(b"\n") else None

    def end(self):
        """Closes the input and waits for the process; returns its exit status."""
        self.unsent.put(None)
        return self.process.wait()

    def kill(self):
        self.process.kill()
        self.end()


def answer_partition(numbered_lines, command, count_death):
    """The answers to consecutive lines.

    numbered_lines: pairs of a line and its index in the whole file
    command: the program and its options
    count_death: called after each death of a process with the number of lines that are sent again
    """
    numbered_lines = iter(numbered_lines)
    waiting = collections.deque()
    worker, deaths = None, 0
    try:
        while True:
            while len(waiting) < WINDOW and (item := next(numbered_lines, None)):
                waiting.append(item)
                if worker:
                    worker.send(item[0])
            # Blank lines have an index but no answer.
            while waiting and not waiting[0][0].strip(" \t\r"):
                waiting.popleft()
            if not waiting:
                break
            if not worker:
                worker = Worker(command, first_line=waiting[0][1] + 1)
                for line, _ in waiting:
                    worker.send(line)
            answer = worker.read()
            if answer is not None:
                waiting.popleft()
                deaths = 0
                yield answer
                continue
            status, worker, deaths = worker.end(), None, deaths + 1
            count_death(len(waiting))
            print("pdrop-run ended with status %d; a new process starts at line %d" % (status, waiting[0][1] + 1),
                  file=sys.stderr, flush=True)
            if deaths == MAX_DEATHS:
                raise RuntimeError("pdrop-run ended with status %d, %d times at line %d" % (
                    status, deaths, waiting[0][1] + 1))
        # Status 1: some answers are error records.
        if worker and (status := worker.end()) not in (0, 1):
            raise RuntimeError("pdrop-run ended with status %d after its last answer" % status)
        worker = None
    finally:
        if worker:
            worker.kill()


def main():
    # Imported here, so that answer_partition is usable without Spark.
    from pyspark import SparkConf, SparkContext

    parser = argparse.ArgumentParser(usage="%(prog)s QUESTIONS ANSWERS [--partitions N] -- pdrop-run ...")
    parser.add_argument("questions", help="JSONL, in a file or folder that Spark can read")
    parser.add_argument("answers", help="folder for the answers; must not exist yet")
    parser.add_argument("--partitions", type=int, help="minimum number of partitions (default: Spark's choice)")
    arguments = sys.argv[1:]
    if "--" not in arguments:
        parser.error("expected -- and the command to run at the end")
    end = arguments.index("--")
    options, command = parser.parse_args(arguments[:end]), arguments[end + 1:]

    context = SparkContext(conf=SparkConf().setAppName("pdrop"))
    command += ["--threads", context.getConf().get("spark.task.cpus", "1")]
    deaths, sent_again = context.accumulator(0), context.accumulator(0)

    def count_death(record_count):
        deaths.add(1)
        sent_again.add(record_count)

    lines = context.textFile(options.questions, options.partitions).zipWithIndex()
    lines.mapPartitions(lambda part: answer_partition(part, command, count_death)).saveAsTextFile(options.answers)
    print("all questions answered; processes that died: %d, lines sent again: %d" % (deaths.value, sent_again.value))
    context.stop()


if __name__ == "__main__":
    main()
