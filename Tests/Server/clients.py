"""Checks a pdrop-serve program with clients that others wrote: OpenAI's package, schemathesis and curl.

    python3 -m venv venv && venv/bin/pip install openai schemathesis
    venv/bin/python clients.py PDROP_SERVE [--only WORD] [--examples N]

curl is taken from the system. PDROP_MODELS is the folder of the bundled models, by default Models of this checkout.
"""
import argparse
import asyncio
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import openai
from openai import OpenAI

from server import MODELS, ROOT, Server, question

BIKE = MODELS / "samples/bike.png"
KEY = "a key"
#: Answers with these statuses are documented; the schema says which belong to which route.
SCHEMATHESIS_CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
]


def client(server, **options):
    return OpenAI(base_url=server.url + "/v1", **{"api_key": KEY, "max_retries": 0, "timeout": 60, **options})


def messages(text="What number is at the top right?", image=BIKE):
    return question(text, image)["messages"]


def create(server, **fields):
    return client(server).chat.completions.create(**{
        "model": "tiny-textvqa", "messages": messages(), "max_tokens": 8, **fields})


# OpenAI's package

def models(server):
    listed = client(server).models.list()
    name = listed.data[0].id
    assert client(server).models.retrieve(name) == listed.data[0]


def whole_answer(server):
    answer = create(server)
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content, answer
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert answer.usage.prompt_tokens_details.image_tokens == 576
    assert answer.timings["vision_encoder_ms"] >= 0
    # The raw response has no type of its own.
    raw = client(server).chat.completions.with_raw_response.create(
        model="m", messages=messages(), max_tokens=8)
    assert raw.parse().choices == answer.choices


def streamed_answer(server):
    expected = create(server, max_tokens=24)
    chunks = list(create(server, max_tokens=24, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == expected.choices[0].message.content
    finish = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert finish == [expected.choices[0].finish_reason]
    assert [index for index, chunk in enumerate(chunks) if chunk.usage] == [len(chunks) - 1]
    assert chunks[-1].usage.total_tokens == expected.usage.total_tokens
    # The helper that collects the events of a stream.
    with client(server).chat.completions.stream(model="m", messages=messages(), max_tokens=24) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == text


def asynchronous_client(server):
    async def ask(number):
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0) as other:
            stream = await other.chat.completions.create(
                model="m", messages=messages(), max_tokens=8, stream=True, seed=number, temperature=0.5)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all():
        return await asyncio.gather(*(ask(number % 4) for number in range(12)))

    answers = asyncio.run(ask_all())
    assert answers[:4] == answers[4:8] == answers[8:], answers


def connections_are_reused_after_errors(server):
    other = client(server)
    for _ in range(10):
        for fields in ({}, {"n": 0}, {"extra_body": {"pdrop": {"target_tokens": 1}}}):
            try:
                other.chat.completions.create(**{"model": "m", "messages": messages(), "max_tokens": 2, **fields})
            except openai.BadRequestError:
                pass


def log_probabilities(server):
    answer = create(server, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert bytes(token.bytes).decode(errors="replace") == token.token
        assert len(token.top_logprobs) == 3 and token.top_logprobs[0].logprob >= token.logprob
    streamed = [token for chunk in create(server, logprobs=True, top_logprobs=3, stream=True)
                if chunk.choices and chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert streamed == tokens


def response_formats(server):
    schema = {"type": "object", "properties": {"number": {"type": "integer"}, "sure": {"type": "boolean"}},
              "required": ["number", "sure"], "additionalProperties": False}
    answer = create(server, max_tokens=64, response_format={
        "type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}})
    value = json.loads(answer.choices[0].message.content)
    assert isinstance(value["number"], int) and isinstance(value["sure"], bool) and len(value) == 2, value
    json.loads(create(server, max_tokens=64, response_format={"type": "json_object"}).choices[0].message.content)
    # A type of Pydantic, which openai brings with it.
    from pydantic import BaseModel

    class Number(BaseModel):
        number: int

    parsed = client(server).chat.completions.parse(
        model="m", messages=messages(), max_tokens=64, response_format=Number)
    assert isinstance(parsed.choices[0].message.parsed, Number), parsed


def several_answers(server):
    answer = create(server, n=3, temperature=1, seed=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    texts = ["", "", ""]
    for chunk in create(server, n=3, temperature=1, seed=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]


def our_fields(server):
    answer = create(server, extra_body={"pdrop": {"policy": "fastv", "fastv_r": 0.75, "kept": True}})
    assert answer.pdrop["policy"]["method"] == "fastv"
    assert answer.pdrop["visual_tokens_per_stage"] == [576, 144]
    assert len(answer.pdrop["kept"][0][0]) == 144
    whole = create(server, extra_body={"pdrop": {"policy": "none"}})
    assert whole.pdrop["visual_tokens_per_stage"] == [576]
    assert whole.pdrop["flops"] > answer.pdrop["flops"]


def raises(error_class, function):
    """The error of a class that a function raises."""
    try:
        function()
    except error_class as error:
        assert type(error) is error_class, type(error)
        assert error.body["message"] and error.body["message"] in str(error), error.body
        return error
    raise AssertionError(f"no {error_class.__name__}")


def error_classes(server):
    error = raises(openai.BadRequestError, lambda: create(server, temperature=5))
    assert error.param == "temperature" and error.type == "invalid_request_error", error.body
    error = raises(openai.BadRequestError, lambda: create(server, messages=messages(image=b"no image")))
    assert error.code == "image_unsupported", error.body
    error = raises(openai.BadRequestError, lambda: create(server, tools=[
        {"type": "function", "function": {"name": "a", "parameters": {}}}]))
    assert "tools" in str(error)
    raises(openai.AuthenticationError, lambda: client(server, api_key="wrong").models.list())
    raises(openai.NotFoundError, lambda: client(server).models.retrieve("other"))
    raises(openai.NotFoundError, lambda: client(server).embeddings.create(model="m", input="a"))
    raises(openai.PermissionDeniedError, lambda: client(
        server, default_headers={"Origin": "https://other.example"}).models.list())
    error = status_error(413, lambda: create(server, user="a" * 9_000_000))
    assert error.code == "request_too_large"
    raises(openai.BadRequestError, lambda: create(server, messages=messages(image=b"no image"), stream=True))


def status_error(status, function):
    """The error of a status that has no class of its own."""
    try:
        function()
    except openai.APIStatusError as error:
        assert error.status_code == status, error
        return error
    raise AssertionError(f"no error {status}")


def full_queue_and_timeout(server):
    with Server(server.program, "-b", 4, "--queue", 1, "--timeout", 2) as other:
        streams = []
        try:
            error = None
            for _ in range(12):
                try:
                    streams.append(client(other).chat.completions.create(
                        model="m", messages=messages(), max_tokens=1400, stream=True,
                        extra_body={"ignore_eos": True, "sse_ping_interval": 0.1}))
                except openai.RateLimitError as found:
                    error = found
            assert error is not None, "no RateLimitError"
            assert error.code == "queue_full" and int(error.response.headers["retry-after"]) >= 1, error
            # The client retries by itself after the time of Retry-After.
            for stream in streams:
                stream.close()
            assert client(other, max_retries=5).chat.completions.create(
                model="m", messages=messages(), max_tokens=2).choices
        finally:
            for stream in streams:
                stream.close()
        error = raises(openai.InternalServerError, lambda: client(other).chat.completions.create(
            model="m", messages=messages(), max_tokens=1400, n=4, extra_body={"ignore_eos": True}))
        assert error.status_code == 504 and error.code == "timeout"
        # In a stream that has begun, the client raises the error of the last event.
        try:
            for _ in client(other).chat.completions.create(
                    model="m", messages=messages(), max_tokens=1400, n=4, stream=True, extra_body={"ignore_eos": True}):
                pass
            raise AssertionError("no error")
        except openai.APIError as error:
            assert "--timeout" in error.message, error


def no_server(_):
    try:
        OpenAI(base_url="http://127.0.0.1:9/v1", api_key="a", max_retries=0).models.list()
    except openai.APIConnectionError:
        return
    raise AssertionError("no APIConnectionError")


# curl

def curl(server, *arguments, body=None):
    """What curl prints for a request."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        if body is not None:
            json.dump(body, file)
            file.flush()
            arguments = [*arguments, "-H", "Content-Type: application/json", "--data-binary", "@" + file.name]
        return subprocess.run(
            ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", "30",
             "-H", f"Authorization: Bearer {KEY}", *arguments],
            capture_output=True, text=True, check=True, timeout=60).stdout


def curl_streams(server):
    url = server.url + "/v1/chat/completions"
    output = curl(server, "-i", url, body=question("What number?", BIKE, max_tokens=8, stream=True))
    head, _, events = output.partition("\n\n")
    assert head.startswith("HTTP/1.1 200"), head
    lines = [line for line in events.splitlines() if line]
    assert lines[-1] == "data: [DONE]" and all(line.startswith("data: ") for line in lines), lines
    assert '"delta":{"role":"assistant"' in lines[0], lines[0]


def curl_does_not_wait_with_large_bodies(server):
    """curl waits a second for `100 Continue` before it sends more than 1 MiB."""
    start = time.monotonic()
    body = question("What number?", BIKE, max_tokens=2, user="a" * 2_000_000)
    assert json.loads(curl(server, server.url + "/v1/chat/completions", body=body))["choices"]
    assert time.monotonic() - start < 0.9, f"{time.monotonic() - start:.1f} s"


def curl_versions_and_methods(server):
    for option in ("--http1.0", "--http1.1"):
        assert json.loads(curl(server, option, server.url + "/health")) == {"status": "ok"}
    assert "200" in curl(server, "--head", server.url + "/health").splitlines()[0]


# schemathesis

def schema(server):
    """Requests that schemathesis makes from the document, valid and not: no hang, answers as documented."""
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    result = subprocess.run(
        [program, "run", ROOT / "docs/openapi.json", "--url", server.url, "--header", f"Authorization: Bearer {KEY}",
         "--checks", ",".join(SCHEMATHESIS_CHECKS), "--max-examples", str(server.examples), "--seed", "1",
         "--request-timeout", "20", "--suppress-health-check", "all", "--generation-database", "none", "--no-color"],
        capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-1000:]
    print("\n".join("  " + line for line in result.stdout.splitlines() if "generated" in line or "passed" in line))


CHECKS = [
    models, whole_answer, streamed_answer, asynchronous_client, connections_are_reused_after_errors, log_probabilities,
    response_formats, several_answers, our_fields, error_classes, full_queue_and_timeout, no_server, curl_streams,
    curl_does_not_wait_with_large_bodies, curl_versions_and_methods, schema,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pdrop_serve")
    parser.add_argument("--only", default="", help="run only checks with this word in their names")
    parser.add_argument("--examples", type=int, default=30, help="examples of schemathesis for each operation")
    arguments = parser.parse_args()
    failures = []
    options = ["--metrics", "--api-key", KEY, "--body-limit", "8MiB", "--timeout", 15]
    with Server(arguments.pdrop_serve, *options) as server:
        server.program, server.examples = arguments.pdrop_serve, arguments.examples
        for check in CHECKS:
            if arguments.only not in check.__name__:
                continue
            began = time.monotonic()
            try:
                check(server)
                result = "ok"
            except Exception as error:  # pylint: disable=broad-except
                result = f"FAILED: {type(error).__name__}: {error}"
                failures.append(check.__name__)
            print(f"{check.__name__.replace('_', ' ')}: {result} ({time.monotonic() - began:.1f} s)", flush=True)
            assert server.process.poll() is None, server.lines[-5:]
    print(f"{len(failures)} failed" if failures else "all passed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
