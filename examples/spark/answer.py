"""Answers a file of questions with Spark: every partition goes through a pdrop-run of its own.

    spark-submit --conf spark.task.cpus=8 answer.py questions.jsonl answers --partitions 1000 \\
        -- pdrop-run -m DIR --image-folder images --ram 12GiB

What stands behind -- is the program and its options; every executor needs it, the model and the pictures under these paths.
A partition is answered by one process that stays for all its records, spark.task.cpus threads each. If it dies, another one
is started and asked what has not been answered; if an executor dies, Spark has its partitions answered anew. Either way
`cat answers/part-*` has each record's answer once, in the order of the questions.

A partition that was begun is lost with its executor, so let it be some minutes of work; all are lost with the job, as
answers count once Spark has written them all, so let a job be some hours.
"""
import argparse
import collections
import queue
import subprocess
import sys
import threading

from pyspark import SparkConf, SparkContext

# Records that a process has and has not answered: more than the 16 that it answers together and the next ones.
WINDOW = 64
# A process may die so often without an answer in between; then the record in front is taken to be the reason.
MOST_DEATHS = 3


class Worker:
    """A pdrop-run that is sent lines and gives answers, in the same order."""

    def __init__(self, command, first_line):
        self.process = subprocess.Popen(
            [*command, "--input", "-", "--output", "-", "--first-line", str(first_line), "--progress", "none"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.unsent = queue.SimpleQueue()
        # Beside us, as the process may write before it has read all.
        threading.Thread(target=self._send, daemon=True).start()

    def _send(self):
        try:
            while (line := self.unsent.get()) is not None:
                self.process.stdin.write(line.encode() + b"\n")
                self.process.stdin.flush()
            self.process.stdin.close()
        except OSError:
            pass  # The process has died, as read() finds as well.

    def send(self, line):
        self.unsent.put(line)

    def read(self):
        """The next answer, or None when the process has died."""
        answer = self.process.stdout.readline()
        return answer[:-1].decode() if answer.endswith(b"\n") else None

    def end(self):
        """Waits for the end of the process; returns its status."""
        self.unsent.put(None)
        return self.process.wait()

    def kill(self):
        self.process.kill()
        self.end()


def answer_partition(numbered_lines, command, count_death):
    """The answers to lines that come with their indices in the whole file, without a gap."""
    numbered_lines = iter(numbered_lines)
    waiting = collections.deque()
    worker, deaths = None, 0
    try:
        while True:
            while len(waiting) < WINDOW and (item := next(numbered_lines, None)):
                waiting.append(item)
                if worker:
                    worker.send(item[0])
            # Blank lines are counted, but nobody answers them.
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
            print("pdrop-run ended with status %d; asking another one from line %d on" % (status, waiting[0][1] + 1),
                  file=sys.stderr, flush=True)
            if deaths == MOST_DEATHS:
                raise RuntimeError("pdrop-run ended with status %d, %d times at line %d" % (
                    status, deaths, waiting[0][1] + 1))
        # 1: some answers are error records.
        if worker and (status := worker.end()) not in (0, 1):
            raise RuntimeError("pdrop-run ended with status %d behind its last answer" % status)
        worker = None
    finally:
        if worker:
            worker.kill()


def main():
    parser = argparse.ArgumentParser(usage="%(prog)s QUESTIONS ANSWERS [--partitions N] -- pdrop-run ...")
    parser.add_argument("questions", help="JSONL, in a file or folder that Spark can read")
    parser.add_argument("answers", help="folder for the answers, which must not be there yet")
    parser.add_argument("--partitions", type=int, help="at least so many; default as Spark chooses")
    arguments = sys.argv[1:]
    if "--" not in arguments:
        parser.error("expected -- and the command of a worker at the end")
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
    print("all answered; processes that died: %d, lines sent again: %d" % (deaths.value, sent_again.value))
    context.stop()


if __name__ == "__main__":
    main()
