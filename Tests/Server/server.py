"""Starts and stops pdrop-serve, and sends requests to it, with the standard library only."""
import base64
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = pathlib.Path(os.environ.get("PDROP_MODELS", ROOT / "Models"))


class Answer:
    """A response: status, headers in lower case, and body."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    def __repr__(self):
        return f"{self.status} {self.body[:400]!r}"


class Server:
    """A running pdrop-serve on a free port. Leaving the context kills it if it still runs."""

    def __init__(self, program, *options, port=0, wait=True):
        # Without a proxy, and with the models of this checkout.
        environment = {**os.environ, "PDROP_MODELS": str(MODELS)}
        self.lines = []
        self.process = subprocess.Popen(
            [program, "--port", str(port), *map(str, options)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, env=environment, text=True, errors="replace")
        self._changed = threading.Condition()
        self._has_ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        address = self.wait_for_line(r"listening on http://(.*):(\d+)$")
        self.host, self.port = address.group(1).strip("[]"), int(address.group(2))
        if wait:
            self.wait_for_line(r"ready: ")

    def _read(self):
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def wait_for_line(self, pattern, timeout=60):
        """The match of the first line on stderr that has the pattern."""
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                found = next(filter(None, (re.search(pattern, line) for line in self.lines)), None)
                if found:
                    return found
                if self._has_ended or not self._changed.wait(max(0, end - time.monotonic())):
                    self.process.kill()
                    raise AssertionError(f"no line {pattern!r} on stderr, but {self.lines[-10:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        self.process.stderr.close()

    def stop(self, timeout=60):
        """Sends SIGTERM, and returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    @property
    def resident_bytes(self):
        """The resident memory of the server, as Linux counts it."""
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    # Requests

    def request(self, method, path, body=None, headers=None, timeout=60):
        """The response to a request; `body` is JSON, or bytes as they are."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            return exchange(connection, method, path, body, headers)
        finally:
            connection.close()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body, **options):
        return self.request("POST", path, body, **options)

    def chat(self, body, **options):
        return self.post("/v1/chat/completions", body, **options)

    def stream(self, body, headers=None, timeout=60):
        """The `Events` of a streamed answer, whose connection the caller closes."""
        return Events(self, {**body, "stream": True}, headers, timeout)

    def connect(self, timeout=60):
        """A bare connection."""
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def raw(self, data, timeout=60):
        """All bytes that the server sends until it closes the connection."""
        with self.connect(timeout) as connection:
            connection.sendall(data)
            return read_all(connection)

    # State

    def metric(self, name):
        """The value of a metric without labels."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").body.decode(), re.MULTILINE)
        return float(found.group(1))

    def busy_slots(self):
        return sum(slot["is_processing"] for slot in self.get("/slots").json)

    def wait_until_idle(self, timeout=30):
        """Waits until no request is processed or waits, and returns the seconds that this took."""
        start = time.monotonic()
        while time.monotonic() - start < timeout:
            if not self.busy_slots() and not self.metric("pdrop:requests_processing") \
                    and not self.metric("pdrop:requests_deferred"):
                return time.monotonic() - start
            time.sleep(0.02)
        raise AssertionError(f"the server is not idle after {timeout} s: {self.get('/slots').json}")


def exchange(connection, method, path, body=None, headers=None):
    """Sends a request on an open `http.client` connection, and reads the response."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return Answer(response.status, response.getheaders(), response.read())


class Events:
    """A stream of server-sent events: iterates over (seconds, line) of all lines that are not empty."""

    def __init__(self, server, body, headers=None, timeout=60):
        self.start = time.monotonic()
        self.connection = http.client.HTTPConnection(server.host, server.port, timeout=timeout)
        self.connection.request(
            "POST", "/v1/chat/completions", json.dumps(body).encode(),
            {"Content-Type": "application/json", **(headers or {})})
        self.response = self.connection.getresponse()
        self.status = self.response.status
        self.headers = {name.lower(): value for name, value in self.response.getheaders()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.response.close()
        self.connection.close()

    def __iter__(self):
        for line in self.response:
            if line.strip():
                yield time.monotonic() - self.start, line.decode().rstrip("\n")

    def chunks(self):
        """(seconds, chunk) of all chunks; the stream must end with `[DONE]`."""
        is_done = False
        for seconds, line in self:
            if line.startswith(":"):
                continue
            assert not is_done and line.startswith("data: "), line
            is_done = line == "data: [DONE]"
            if not is_done:
                yield seconds, json.loads(line.removeprefix("data: "))
        assert is_done, "the stream ended without [DONE]"


def read_all(connection):
    """All bytes until the other side closes the connection."""
    received = b""
    try:
        while data := connection.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass
    return received


def data_url(image, media_type="image/png"):
    """The data URL of an image: bytes, or a path."""
    data = image if isinstance(image, bytes) else pathlib.Path(image).read_bytes()
    return f"data:{media_type};base64," + base64.b64encode(data).decode()


def question(text, *images, **fields):
    """The body of a request about images: bytes, paths or URLs."""
    urls = [image if isinstance(image, str) else data_url(image) for image in images]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"messages": [{"role": "user", "content": parts + [{"type": "text", "text": text}]}], **fields}


def evaluation_questions(count, folder=MODELS / "tiny-textvqa-eval"):
    """Bodies of evaluation questions of the bundled model, spread over all of them."""
    lines = (folder / "question.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines][::max(1, len(lines) // count)][:count]
    return [question(record["text"], folder / "images" / record["image"], max_tokens=16) for record in records]
