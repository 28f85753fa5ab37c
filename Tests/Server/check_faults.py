"""Clients that leave, are slow or send no HTTP, and the end of pdrop-serve."""
import contextlib
import resource
import socket
import struct
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from checks import bare_response, check, equal, expect_works, http_bytes, long, short, wait_for
from server import Server, evaluation_questions, read_all

IDLE_CONNECTIONS = 1000


def cancelled(server):
    return server.metric("pdrop:requests_cancelled_total")


@check("--metrics")
def clients_that_leave_while_answered(server):
    before = cancelled(server)
    for index, body in enumerate([long(n=2), {**long(n=2), "stream": True}]):
        connection = server.connect()
        connection.sendall(http_bytes(body))
        wait_for(lambda: server.busy_slots() > 0)
        time.sleep(0.3)
        if index == 0:
            # The client resets the connection.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        assert server.wait_until_idle(3) < 3
        equal(cancelled(server), before + index + 1)
    expect_works(server)


@check("--metrics", "-b", "2")
def clients_that_leave_while_waiting(server):
    before = cancelled(server)
    blocker = server.connect()
    blocker.sendall(http_bytes(long(n=2)))
    wait_for(lambda: server.busy_slots() > 0)
    for streams in (False, True):
        waiting = [server.connect() for _ in range(8)]
        for connection in waiting:
            connection.sendall(http_bytes(short(stream=streams, sse_ping_interval=100)))
        wait_for(lambda: server.metric("pdrop:requests_processing") + server.metric("pdrop:requests_deferred") == 9)
        for connection in waiting:
            connection.close()
        wait_for(lambda: server.metric("pdrop:requests_processing") + server.metric("pdrop:requests_deferred") == 1, 3)
        before += 8
        equal(cancelled(server), before)
    blocker.close()
    server.wait_until_idle(3)
    equal(cancelled(server), before + 1)
    expect_works(server)


@check("--metrics")
def half_closed_connections(server):
    """A client that closes its side is answered, or gets the status 499; it does not keep a slot."""
    for data in (http_bytes(short()), http_bytes(short(stream=True)), b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with server.connect(5) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            received = read_all(connection)
        assert not received or bare_response(received)[0] in (200, 499), received[:100]
    with server.connect(5) as connection:
        connection.sendall(http_bytes(short())[:500])
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    server.wait_until_idle(3)
    expect_works(server)


@check("--metrics")
def slow_sender(server):
    data = http_bytes(short(), "/v1/chat/completions", "Connection: close")
    with server.connect() as connection:
        step = len(data) // 10
        for start in range(0, len(data), step):
            connection.sendall(data[start:start + step])
            time.sleep(0.1)
            if start == 5 * step:
                expect_works(server)
        equal(bare_response(read_all(connection))[0], 200)


@check("--metrics")
def slow_reader(server):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect((server.host, server.port))
        connection.settimeout(60)
        body = short(stream=True, max_tokens=300, ignore_eos=True, logprobs=True, top_logprobs=20)
        connection.sendall(http_bytes(body, "/v1/chat/completions"))
        wait_for(lambda: server.busy_slots() > 0)
        expect_works(server)
        # Its slot is free before everything is read.
        server.wait_until_idle(20)
        received = read_all(connection)
    assert len(received) > 200_000, len(received)
    assert b"data: [DONE]" in received[-100:], received[-200:]


@check("--metrics")
def idle_connections(server):
    # The server raises its own limit.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    starts = (b"", b"GET /health HT", http_bytes(short())[:300])
    with contextlib.ExitStack() as stack:
        for index in range(IDLE_CONNECTIONS):
            connection = stack.enter_context(server.connect())
            connection.sendall(starts[index % len(starts)])
        start = time.monotonic()
        expect_works(server)
        assert time.monotonic() - start < 5
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    expect_works(server)


@check("--metrics")
def headers_that_are_no_http(server):
    get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    for data in (
        get + b"X: " + b"a" * 20_000 + b"\r\n\r\n", get + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
        get + b"".join(b"X%d: a\r\n" % index for index in range(2000)) + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        get + b"X: a\x00b\r\n\r\n", get + b"X: a\r\n b\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n{}",
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        received = server.raw(data, timeout=5)
        assert not received or bare_response(received)[0] in (400, 414, 431), received[:200]
    expect_works(server)


@check("--metrics")
def pipelined_requests(server):
    get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    received = server.raw(get + get + b"\x00\x01garbage\r\n\r\n", timeout=5)
    equal(received.count(b"HTTP/1.1 200 OK"), 2)
    equal(received.count(b"HTTP/1.1 400"), 1)
    # The response to a chat request ends the connection, whatever follows.
    received = server.raw(http_bytes(short()) + b"\x00\x01garbage\r\n\r\n", timeout=5)
    assert received.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 499")), received[:100]
    server.wait_until_idle(3)
    expect_works(server)


@check("--metrics")
def older_http(server):
    """HTTP/1.0 is answered; so is `Expect: 100-continue`, as sent by curl."""
    received = server.raw(b"GET /health HTTP/1.0\r\nConnection: close\r\n\r\n", timeout=5)
    equal(bare_response(received)[0], 200)
    with server.connect(5) as connection:
        data = http_bytes({"content": "a"}, "/tokenize", "Expect: 100-continue", "Connection: close")
        head, _, body = data.partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        start = time.monotonic()
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 "), "no 100 Continue"
        assert time.monotonic() - start < 0.5
        connection.sendall(body)
        equal(bare_response(read_all(connection))[0], 200)


@check()
def stop_finishes_what_runs(server):
    body = short(max_tokens=400, ignore_eos=True)
    idle = server.connect()
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(server.chat, body)
        stream = server.stream({**body, "stream_options": {"include_usage": True}})
        chunks = stream.chunks()
        next(chunks)
        stopped = pool.submit(server.stop)
        *_, (_, last) = chunks
        equal(last["usage"]["completion_tokens"], 400)
        equal(whole.result().json["usage"]["completion_tokens"], 400)
        equal(stopped.result(), 0)
    stream.close()
    equal(idle.recv(10), b"")
    idle.close()
    equal([line for line in server.lines if "error" in line.lower()], [])


@check()
def stop_does_not_wait_for_half_a_request(server):
    with server.connect() as connection:
        connection.sendall(http_bytes(short())[:500])
        time.sleep(0.2)
        equal(server.stop(10), 0)


@check()
def second_server_on_the_same_port(server):
    for options in (["--port", server.port], ["--host", "192.0.2.1", "--port", 0],
                    ["--host", "x.invalid", "--port", 0]):
        process = subprocess.run(
            [server.program, *map(str, options)], capture_output=True, text=True, timeout=30, check=False)
        assert process.returncode not in (0, -6, -11), process
        lines = process.stderr.splitlines()
        equal(len(lines), 1, lines)
        assert lines[0].startswith("error: ") and "--port" in lines[0], lines
        equal(lines[0].count("("), lines[0].count(")"), f"parentheses in {lines[0]!r}")
    expect_works(server)


@check()
def wrong_options(server):
    for options in (["--port", "70000"], ["--queue", "0"], ["--timeout", "0"], ["--media-path", "/nonexistent"],
                    ["--api-key", ""], ["--api-key-file", "/nonexistent"], ["--body-limit", "much"], ["-b", "99"],
                    ["--prefill-share", "0"], ["--port", "0", "-m", "/nonexistent"]):
        process = subprocess.run(
            [server.program, *options], capture_output=True, text=True, timeout=30, check=False)
        assert process.returncode not in (0, -6, -11), (options, process)
        assert "error: " in process.stderr, (options, process.stderr)


@check()
def kill_while_caching(server):
    """A server that is killed while it writes its caches leaves no bad file."""
    bodies = evaluation_questions(10)
    expected = [server.chat(body).json["choices"] for body in bodies]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--feature-cache", folder + "/features", "--prompt-cache", folder + "/prompts"]
        for delay in (0.1, 0.3, 0.5):
            with Server(server.program, *options) as other, ThreadPoolExecutor(10) as pool:
                for body in bodies:
                    pool.submit(other.chat, body)
                time.sleep(delay)
                other.process.kill()
                pool.shutdown()
        for _ in range(2):
            with Server(server.program, *options) as other:
                equal([other.chat(body).json["choices"] for body in bodies], expected)
                equal(len(other.lines), 2, other.lines)
                equal(other.stop(), 0)
