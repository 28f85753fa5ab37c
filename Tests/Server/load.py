"""Measures pdrop-serve under load, and prints the results as Markdown.

    python load.py PDROP_SERVE PDROP_RUN [--clients 32] [--seconds 300] [--only disturbed|fair|latency|throughput|idle]

Only this machine is used: server and clients share its processors. The standard library is enough.
"""
import argparse
import collections
import contextlib
import itertools
import json
import pathlib
import random
import re
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

from server import MODELS, Server, question

FAILURES = []


def expect(condition, text):
    """Notes a failure, and goes on."""
    if not condition:
        FAILURES.append(text)
        print(f"\n**FAILED**: {text}")


def table(head, rows):
    print()
    print("| " + " | ".join(head) + " |")
    print("|" + "|".join(" --- " for _ in head) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)


def percentile(values, share):
    """The value below which a share of the values lies."""
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def milliseconds(values):
    return f"{1e3 * percentile(values, 0.5):.0f} / {1e3 * percentile(values, 0.95):.0f}"


def png(width, height, seed):
    """A PNG of coloured squares."""
    generator = random.Random(seed)
    side = max(1, width // 7)
    rows = []
    for top in range(0, height, side):
        colours = [generator.randbytes(3) for _ in range(0, width, side)]
        row = b"\x00" + b"".join(colour * side for colour in colours)[:3 * width]
        rows += [row] * min(side, height - top)

    def part(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [part(b"IHDR", header), part(b"IDAT", zlib.compress(b"".join(rows))), part(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def evaluation_bodies(count, **fields):
    """Questions about as many different images of the evaluation set as possible."""
    folder = MODELS / "tiny-textvqa-eval"
    records = [json.loads(line) for line in (folder / "question.jsonl").read_text().splitlines()]
    groups = collections.defaultdict(list)
    for record in records:
        groups[record["image"]].append(record)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*groups.values()))
    chosen = itertools.islice(filter(None, turns), count)
    return [question(record["text"], folder / "images" / record["image"], **fields) for record in chosen]


def mixed_bodies():
    """Requests with images of many sizes and answers of many lengths, the same in every run."""
    generator = random.Random(1)
    images = [(MODELS / "samples" / name).read_bytes() for name in ("bike.png", "river.png", "shapes.png")]
    images += [png(width, height, seed) for seed, (width, height) in enumerate(
        [(1, 1), (32, 32), (336, 336), (640, 480), (480, 640), (1600, 900), (200, 1200)])]
    bodies = []
    for number in range(60):
        count = generator.choice([0, 1, 1, 1, 1, 1, 2])
        body = question(
            generator.choice(["What is this?", "What number is at the top right?", "Which colour is the word?"]),
            *generator.sample(images, count), max_tokens=generator.randint(1, 64))
        body.update(generator.choice([{}, {}, {"ignore_eos": True}, {"n": 2, "temperature": 1, "seed": number},
                                      {"logprobs": True, "top_logprobs": 2}, {"temperature": 0.7, "seed": number},
                                      {"response_format": {"type": "json_object"}}]))
        body["pdrop"] = generator.choice([{}, {}, {"policy": "none"}, {"policy": "fastv"}, {"lambda": 0.3}])
        bodies.append(body)
    return bodies


# Clients that leave at random moments

#: Seconds that other clients wait for bytes.
PATIENCE = 120


class Disturbance:
    """Clients that ask mixed questions, of whom some leave before the answer is complete."""

    def __init__(self, server, end):
        self.server, self.end = server, end
        self.bodies = mixed_bodies()
        self.lock = threading.Lock()
        self.results = collections.Counter()
        self.texts = {}
        self.problems = []

    def note(self, result):
        with self.lock:
            self.results[result] += 1

    def problem(self, text):
        with self.lock:
            self.problems.append(text)

    def run(self, client):
        generator = random.Random(client)
        while time.monotonic() < self.end:
            number = generator.randrange(len(self.bodies))
            leaves = generator.random() < 0.25
            # Most leave early, some in the middle of the answer.
            patience = generator.expovariate(2) if leaves else None
            try:
                if generator.random() < 0.5:
                    self.stream(number, patience)
                else:
                    self.whole(number, patience)
            except TimeoutError:
                # The client leaves when it has waited long enough for the next bytes.
                if leaves:
                    self.note("left")
                else:
                    self.problem(f"request {number}: no bytes for {PATIENCE} s")
            except Exception as error:  # pylint: disable=broad-except
                self.problem(f"request {number}: {type(error).__name__}: {error}")

    def whole(self, number, patience):
        answer = self.server.chat(self.bodies[number], timeout=patience or PATIENCE)
        self.note(answer.status)
        if answer.status == 200:
            choices = answer.json["choices"]
            return self.compare(number, [choice["message"]["content"] for choice in choices])
        if answer.status != 429:
            return self.problem(f"request {number}: {answer}")
        return time.sleep(0.1)

    def stream(self, number, patience):
        with self.server.stream(self.bodies[number], timeout=patience or PATIENCE) as stream:
            if stream.status != 200:
                self.note(stream.status)
                if stream.status != 429:
                    self.problem(f"request {number}: {stream.status} {stream.response.read()[:300]}")
                return time.sleep(0.1)
            texts = collections.defaultdict(str)
            for seconds, chunk in stream.chunks():
                if patience and seconds > patience:
                    return self.note("left")
                for choice in chunk["choices"]:
                    texts[choice["index"]] += choice["delta"].get("content") or ""
        self.note(200)
        return self.compare(number, [texts[index] for index in sorted(texts)])

    def compare(self, number, texts):
        with self.lock:
            known = self.texts.setdefault(number, texts)
        if known != texts:
            self.problem(f"request {number}: {texts} among others, {known} before")


def disturbed(arguments):
    print(f"\n## {arguments.clients} clients for {arguments.seconds} s, a quarter of them leaving early")
    memory = []
    with Server(arguments.pdrop_serve, "--metrics", *arguments.options) as server:
        disturbance = Disturbance(server, time.monotonic() + arguments.seconds)
        threads = [threading.Thread(target=disturbance.run, args=[client]) for client in range(arguments.clients)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            memory.append((time.monotonic() - start, server.resident_bytes))
            expect(server.process.poll() is None, f"the server ended: {server.lines[-3:]}")
            if server.process.poll() is not None or time.monotonic() > disturbance.end + PATIENCE + 10:
                break
            time.sleep(0.5)
        alive = sum(thread.is_alive() for thread in threads)
        expect(not alive, f"{alive} clients still wait")
        # A client that left in the last moment.
        with contextlib.suppress(AssertionError):
            server.wait_until_idle(10)
        busy, processing = server.busy_slots(), server.metric("pdrop:requests_processing")
        waiting, cancelled = server.metric("pdrop:requests_deferred"), server.metric("pdrop:requests_cancelled_total")
        table(["result", "requests"], sorted(disturbance.results.items(), key=str))
        table(["time", "RSS"], [
            (f"{seconds:.0f} s", f"{size / 1e6:.0f} MB")
            for seconds, size in memory[::max(1, len(memory) // 10)] + memory[-1:]])
        print(f"\nAt the end: {busy} slots busy, {processing:.0f} requests in work, {waiting:.0f} waiting; "
              f"{cancelled:.0f} were cancelled. {len(disturbance.texts)} different requests were answered.")
        expect((busy, processing, waiting) == (0, 0, 0), "slots or requests are lost")
        third = len(memory) // 3
        early = max(size for _, size in memory[third:2 * third] or memory)
        late = max(size for _, size in memory[2 * third:])
        expect(late < 1.15 * early, f"memory grows: {early / 1e6:.0f} MB, then {late / 1e6:.0f} MB")
        for problem in disturbance.problems[:20]:
            expect(False, problem)
        expect(len(disturbance.problems) <= 20, f"{len(disturbance.problems)} problems")
        expect(server.chat(disturbance.bodies[0]).status == 200, "the next request")
        expect(server.stop() == 0, "exit status")


# Fairness

def fair(arguments):
    """Equal requests, one after the other: first tokens come in the order of arrival."""
    count = 40
    bodies = evaluation_bodies(count, max_tokens=24, ignore_eos=True)
    firsts = [None] * count
    with Server(arguments.pdrop_serve, "--metrics", "-b", 4) as server:

        def ask(number):
            with server.stream({**bodies[number], "sse_ping_interval": 60}) as stream:
                for _, chunk in stream.chunks():
                    if chunk["choices"] and chunk["choices"][0]["delta"].get("role"):
                        firsts[number] = time.monotonic()

        threads = [threading.Thread(target=ask, args=[number]) for number in range(count)]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        for thread in threads:
            thread.join(120)
    # Clients notice their first tokens a little later than they are sent.
    overtaken = sum(later < earlier - 0.03 for earlier, later in itertools.combinations(firsts, 2))
    pairs = count * (count - 1) // 2
    print(f"\n## Fairness\n\n{count} equal requests at four slots, 20 ms apart: {overtaken} of {pairs} pairs had their "
          "first tokens in another order than they arrived.")
    expect(overtaken == 0, f"{overtaken} requests were overtaken")


# Latency

def latency(arguments):
    print("\n## Latency\n\nStreamed answers of 64 tokens to questions about different images, p50 / p95.")
    rows = []
    for clients in (1, 4, 16):
        # A server of its own, so that no image is in a cache.
        with Server(arguments.pdrop_serve, "--metrics", *arguments.options) as server:
            bodies = iter(evaluation_bodies(max(12, 3 * clients), max_tokens=64, ignore_eos=True))
            lock = threading.Lock()
            firsts, gaps, tokens = [], [], []

            def ask():
                while True:
                    with lock:
                        body = next(bodies, None)
                    if body is None:
                        return
                    with server.stream({**body, "stream_options": {"include_usage": True}}) as stream:
                        last = None
                        for seconds, chunk in stream.chunks():
                            if chunk.get("usage"):
                                tokens.append(chunk["usage"]["completion_tokens"])
                            elif chunk["choices"][0]["delta"].get("content"):
                                (firsts if last is None else gaps).append(seconds - (last or 0))
                                last = seconds

            start = time.monotonic()
            threads = [threading.Thread(target=ask) for _ in range(clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.monotonic() - start
            rate = f"{sum(tokens) / seconds:.0f}"
            rows.append((clients, len(firsts), milliseconds(firsts), milliseconds(gaps), rate))
    table(["clients", "requests", "time to first token (ms)", "gap between texts (ms)", "tokens/s"], rows)


# Throughput

def served_rate(program, bodies, clients, options):
    """Tokens per second of a server."""
    with Server(program, "-b", 16, *options) as server:
        start = time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(server.chat, bodies))
        seconds = time.monotonic() - start
    return sum(answer.json["usage"]["completion_tokens"] for answer in answers) / seconds


def batch_rate(program, bodies):
    """Tokens per second of `pdrop-run --input`, as it reports it."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [json.dumps({"custom_id": str(index), "url": "/v1/chat/completions", "body": body})
                 for index, body in enumerate(bodies)]
        pathlib.Path(folder, "in.jsonl").write_text("\n".join(lines) + "\n")
        result = subprocess.run(
            [program, "-m", MODELS / "tiny-textvqa", "--input", folder + "/in.jsonl", "--output", folder + "/out.jsonl",
             "--progress", "none", "-b", "16"], check=True, timeout=300, capture_output=True, text=True)
    return float(re.search(r"([\d.]+) tokens/s", result.stderr).group(1))


def throughput(arguments):
    print("\n## Throughput\n\n64 questions about different images, 64 tokens each, 16 at once; both in turns.")
    bodies = evaluation_bodies(64, max_tokens=64, ignore_eos=True)
    served, batch = [], []
    for _ in range(arguments.repeats):
        served.append(served_rate(arguments.pdrop_serve, bodies, 16, arguments.options))
        batch.append(batch_rate(arguments.pdrop_run, bodies))
    ratio = statistics.median(served) / statistics.median(batch)
    table(["", "tokens/s, each run", "median"], [
        ("pdrop-serve, 16 clients", ", ".join(f"{rate:.0f}" for rate in served), f"{statistics.median(served):.0f}"),
        ("pdrop-run --input -b 16", ", ".join(f"{rate:.0f}" for rate in batch), f"{statistics.median(batch):.0f}")])
    print(f"\nThe server reaches {100 * ratio:.0f}% of the batch.")
    expect(ratio >= 0.9, f"{100 * ratio:.0f}% of the batch's tokens/s; expected 90%")


# Idle connections

def idle(arguments):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(arguments.idle, hard - 100)
    with Server(arguments.pdrop_serve, "--metrics") as server:
        body = mixed_bodies()[1]
        before = server.resident_bytes
        with contextlib.ExitStack() as stack:
            for number in range(count):
                connection = stack.enter_context(server.connect())
                if number % 2:
                    connection.sendall(b"GET /health HT")
            # All have arrived when the last one is served.
            start = time.monotonic()
            status = server.chat(body).status
            seconds, size = time.monotonic() - start, server.resident_bytes
        print(f"\n## Idle connections\n\nWith {count} idle connections, a request gets {status} after "
              f"{seconds:.2f} s; RSS is {size / 1e6:.0f} MB, {(size - before) / 1e3 / count:.0f} kB for each.")
        expect(status == 200 and seconds < 10, "a request with idle connections")
        expect(server.chat(body).status == 200, "a request after idle connections")


PARTS = [disturbed, fair, latency, throughput, idle]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pdrop_serve")
    parser.add_argument("pdrop_run")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each program for the throughput")
    parser.add_argument("--idle", type=int, default=10_000, help="number of idle connections")
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS])
    parser.add_argument(
        "--options", nargs=argparse.REMAINDER, default=[], help="more options of the server; the last argument")
    arguments = parser.parse_args()
    for part in PARTS:
        if arguments.only in (None, part.__name__):
            part(arguments)
    print(f"\n{len(FAILURES)} failed" if FAILURES else "\nAll as expected")
    sys.exit(bool(FAILURES))


if __name__ == "__main__":
    main()
