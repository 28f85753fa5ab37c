"""Requests that pdrop-serve refuses, and fields that it ignores."""
import json
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

from checks import BIKE, bare_response, check, equal, expect_error, expect_works, http_bytes, long, short, wait_for
from server import data_url, exchange, question, read_all


@check("--metrics")
def bodies_that_are_no_requests(server):
    body = json.dumps(short()).encode()
    for path in ("/v1/chat/completions", "/tokenize", "/detokenize", "/apply-template"):
        for wrong in (b"", b"{", b"nonsense", b"[1]", b'"text"', b"\x00", b"\xff\xfe{}", b"[" * 10000,
                      b'{"messages": "\xff"}', b'{"a": {"b": 1, "b": 2}}', b'{"a": 1e', b"{} {}", body[:len(body) // 2], body + b"}"):
            expect_error(server.post(path, wrong), 400)
    expect_works(server)


@check("--metrics")
def messages_that_are_no_conversation(server):
    wrong = [
        None, "Hello", [], {}, [1], [{"role": "robot", "content": "a"}], [{"content": "a"}], [{"role": "user"}],
        [{"role": "user", "content": 5}], [{"role": "user", "content": ["a"]}],
        [{"role": "user", "content": [{"type": "text"}]}], [{"role": "user", "content": [{"type": "image_url"}]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        [{"role": "user", "content": "a", "images": ["b.png"]}],
        [{"role": "user", "content": [{"type": "text", "text": "a", "image_url": "b"}]}],
        [{"role": "user", "content": "<image> without an image"}],
        [{"role": "user", "content": "word " * 3000}],
    ]
    for messages in wrong:
        expect_error(server.chat({"messages": messages}), 400, param="messages")
    expect_error(server.chat({}), 400, "messages", param="messages")
    expect_error(
        server.chat({"messages": wrong[-1]}), 400, "2048", code="context_length_exceeded", param="messages")
    expect_works(server)


@check("--metrics")
def values_that_are_out_of_range(server):
    for field, values in {
        "temperature": [3, -1, "warm", [1]], "top_p": [0, 2], "n": [0, 1000, 1.5, "2"], "max_tokens": [-2, 1.5, "all"],
        "stop": [5, [1]], "logprobs": ["yes", 1], "top_logprobs": [2], "seed": [1.5, "a"], "stream": ["yes", 1],
        "logit_bias": [{"a": 1}, {"5": 1000}, 5], "frequency_penalty": [5], "presence_penalty": [-5],
        "response_format": [{"type": "xml"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {
            "name": "a", "schema": {"type": "nothing"}}}],
        "return_progress": ["yes"], "stream_options": [5, {"include_usage": "yes"}], "sse_ping_interval": ["often"],
    }.items():
        for value in values:
            error = expect_error(server.chat({**short(), field: value}), 400)
            equal((error["param"] or "").split(".")[0], field, error)
    expect_error(server.chat({**short(), "logprobs": True, "top_logprobs": 50}), 400, "20", param="top_logprobs")
    expect_works(server)


@check("--metrics")
def policies_that_do_not_exist(server):
    for policy in (5, {"policy": "other"}, {"lambda": 7}, {"lambda": "much"}, {"unknown": 1}, {"layer_list": [8]},
                   {"layer_list": [8, 99], "image_token_ratio_list": [0.5, 0.2]}, {"stages": -1},
                   {"target_tokens": 1}, {"policy": "fastv", "lambda": 0.5}, {"kept": "yes"}, {"maps": 1},
                   {"rank": "--help"}, {"layer_list": [], "image_token_ratio_list": []}, {"mask_padding": "yes"}):
        error = expect_error(server.chat({**short(), "pdrop": policy}), 400)
        equal((error["param"] or "").split(".")[0], "pdrop", error)
        assert "--" not in error["message"].replace('"--help"', ""), f"spells options, not fields: {error['message']}"
    expect_works(server)


@check("--metrics")
def unsupported_fields_are_named(server):
    for field, value in {
        "tools": [{"type": "function"}], "functions": [{"name": "a"}], "tool_choice": "required", "best_of": 2,
        "modalities": ["audio"], "audio": {"voice": "a"}, "min_tokens": 5, "typical_p": 0.5, "suffix": "a",
        "chat_template_kwargs": {"a": 1}, "grammar": 'root ::= "a"', "mirostat": 2, "dry_multiplier": 1,
        "truncate_prompt_tokens": 5,
    }.items():
        error = expect_error(server.chat({**short(), field: value}), 400, field)
        equal(error["param"], field, error)
    expect_works(server)


@check("--metrics")
def unknown_and_neutral_fields_are_ignored(server):
    expected = server.chat(short()).json["choices"]
    body = short(
        model="gpt-4o", user="u", metadata={"a": "b"}, store=True, something_new=[1], service_tier="auto", tools=[],
        tool_choice="auto", logprobs=False, top_logprobs=0, stop=None, response_format={"type": "text"}, n=None,
        parallel_tool_calls=True, cache_prompt=True, id_slot=-1, min_tokens=0, timings_per_token=False)
    equal(server.chat(body).json["choices"], expected)
    # A bare URL, and a type that is not that of the data.
    for part in ({"type": "image_url", "image_url": data_url(BIKE)},
                 {"type": "image_url", "image_url": {"url": data_url(BIKE, "image/jpeg"), "detail": "low"}}):
        body = short()
        body["messages"][0]["content"][0] = part
        equal(server.chat(body).json["choices"], expected)


@check("--metrics")
def long_values_are_not_echoed(server):
    text = "a" * 2_000_000
    for body in ({**short(), "stream": text}, {**short(), "temperature": text}, {**short(), "pdrop": text},
                 {**short(), "pdrop": {"policy": text}}, {**short(), "pdrop": {text: 1}}, {"messages": text},
                 {"messages": [{"role": text}]}, {"messages": [{"role": "user", "content": "a", text: 1}]},
                 {**short(), "response_format": {"type": text}}, question("What?", text), text):
        start = time.monotonic()
        expect_error(server.chat(body, timeout=20), 400)
        assert time.monotonic() - start < 5, f"{time.monotonic() - start:.1f} s"
    expect_error(server.get("/" + "a" * 5000), 404)
    expect_works(server)


def image_reference_errors(server, references):
    for reference in references:
        expect_error(server.chat(question("What?", reference)), 400, param="messages")


@check("--metrics")
def references_that_are_not_allowed(server):
    image_reference_errors(server, [
        "", " ", "https://example.org/a.png", "http://127.0.0.1/", "HTTP://localhost/a", "ftp://example.org/a.png",
        "file:///etc/passwd", "file://" + str(BIKE), str(BIKE), "bike.png", "../bike.png", "data:", "data:image/png,a",
        "data:image/png;base64", "data:image/png;base64,", "data:image/png;base64,@@@@", "data:text/html;base64,PGI+",
        "javascript:alert(1)", "a\x00b", "\ud800".encode("utf-8", "replace").decode()])
    expect_works(server)


@check("--metrics")
def damaged_images(server):
    """Every image of the fixtures, whole and in half, and everything in the folders of `--damaged`."""
    fixtures = server.fixtures
    readable_cuts = json.loads((fixtures / "truncations.json").read_text())
    images = sorted(path for path in fixtures.iterdir() if path.suffix in (".jpg", ".png", ".webp"))
    assert len(images) > 40, fixtures
    cases = [(path.name, path.read_bytes(), None) for path in images]
    for name, lengths in readable_cuts.items():
        data = (fixtures / name).read_bytes()
        half = len(data) // 2
        assert half not in lengths
        cases += [(name + " in half", data[:half], 400), (name + " with a wrong start", b"\x00\x00" + data[2:], 400)]
    for folder in server.damaged:
        cases += [(str(path), path.read_bytes(), None) for path in sorted(folder.rglob("*"))
                  if path.suffix in (".jpg", ".jpeg", ".png", ".webp") and path.is_file()]

    def ask(case):
        name, data, status = case
        answer = server.chat(question("What is this?", data, max_tokens=1))
        assert answer.status in ([status] if status else [200, 400]), f"{name}: {answer}"
        if answer.status == 400:
            error = expect_error(answer, 400, "image 1", param="messages")
            assert error["code"].startswith("image_"), (name, error)
        return answer.status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, cases))
    assert statuses.count(200) > 30, statuses
    expect_works(server)


@check("--metrics")
def too_much_in_a_body(server):
    for extra in ({}, {"with_pieces": True}):
        expect_error(server.post("/tokenize", {"content": "a " * 200_000, **extra}), 400, "at most 262144")
        answer = server.post("/tokenize", {"content": "a " * 100_000, **extra})
        assert answer.status == 200 and len(answer.json["tokens"]) >= 100_000, answer
    # Small values take many times the memory of their text.
    expect_error(server.post("/tokenize", {"content": "a", "x": [[]] * 300_000}), 400, "at most 262144 values")
    expect_error(server.chat(short(x=[[]] * 300_000)), 400, "at most 262144 values")
    expect_works(server)


@check("--metrics")
def forms_that_would_take_long(server):
    key = "k" * 120_000
    for options in (
            {"guided_regex": "(?:" + "()" * 200 + "){999999999}"}, {"guided_regex": "." * 100_000},
            {"guided_json": {"pattern": "." * 60_000}},
            {"guided_json": {"properties": {key: {"properties": {f"p{i}": {} for i in range(5000)}}}}}):
        start = time.monotonic()
        expect_error(server.chat(short(**options)), 400)
        assert time.monotonic() - start < 20, options
    expect_works(server)


@check("--metrics", "--body-limit", "200KB")
def too_large_bodies(server):
    body = json.dumps(short(note="a" * 300_000)).encode()
    for path in ("/v1/chat/completions", "/tokenize"):
        error = expect_error(server.post(path, body), 413, "--body-limit")
        assert "0 MiB" not in error["message"], error
    expect_error(server.chat(b"a" * 20_000_000), 413)
    chunks = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    with server.connect(5) as connection:
        connection.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks * 4)
        equal(bare_response(connection.recv(1 << 16))[0], 413)
    expect_works(server)


@check("--metrics", "--body-limit", "200KB")
def too_large_bodies_are_refused_by_their_length(server):
    with server.connect(5) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{")
        status, head, _ = bare_response(read_all(connection))
        equal(status, 413)
        assert "connection: close" in head.lower(), head
    expect_works(server)


@check("--metrics", "-b", "1", "--queue", "1")
def full_queue(server):
    """One request runs and one waits: the next one is refused."""
    blocker, waiting = server.connect(), server.connect()
    blocker.sendall(http_bytes(long()))
    wait_for(lambda: server.busy_slots() > 0)
    waiting.sendall(http_bytes(short()))
    wait_for(lambda: server.metric("pdrop:requests_deferred") == 1)
    answer = server.chat(short())
    expect_error(answer, 429, "--queue", code="queue_full")
    assert int(answer.headers["retry-after"]) >= 1, answer.headers
    with server.stream(short()) as stream:
        equal(stream.status, 429)
    # Free again without the blocker.
    blocker.close()
    equal(bare_response(waiting.recv(1 << 16))[0], 200)
    server.wait_until_idle()
    expect_works(server)


@check("--metrics", "--timeout", "1")
def requests_that_take_too_long(server):
    start = time.monotonic()
    expect_error(server.chat(long(n=4)), 504, "--timeout", code="timeout")
    assert 0.9 < time.monotonic() - start < 3
    with server.stream(long(n=4)) as stream:
        equal(stream.status, 200)
        lines = [line for _, line in stream]
    error = json.loads(lines[-1].removeprefix("data: "))["error"]
    equal(error["code"], "timeout")
    server.wait_until_idle(2)
    expect_works(server)


@check("--metrics")
def kept_alive_connections(server):
    """A response that closes the connection says so; any other leaves it open."""
    connection = HTTPConnection(server.host, server.port, timeout=20)
    connection.connect()
    wrong = {**short(), "pdrop": {"target_tokens": 1}}
    for body, status in (({}, 400), (short(n=0), 400), (wrong, 400), (short(), 200), (b"{", 400), (short(), 200)):
        answer = exchange(connection, "POST", "/v1/chat/completions", body)
        equal(answer.status, status, answer)
        if answer.headers.get("connection", "").lower() == "close":
            connection.close()
    connection.close()
