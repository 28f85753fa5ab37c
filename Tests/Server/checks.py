"""What the checks of pdrop-serve share: their list, requests, and comparisons."""
import json
import time

from server import MODELS, question


BIKE = MODELS / "samples/bike.png"
RIVER = MODELS / "samples/river.png"
#: Long enough to be disturbed: some seconds for each answer.
LONG = {"max_tokens": 1400, "ignore_eos": True}

CHECKS = []


def check(*options):
    """Registers a check, which gets a server that was started with these options."""
    def register(function):
        CHECKS.append((options, function))
        return function
    return register


def short(**fields):
    """A request with a short answer."""
    return question("What number is at the top right?", BIKE, **{"max_tokens": 4, **fields})


def long(**fields):
    """A request that runs for a while."""
    return question("What number is at the top right?", BIKE, **{**LONG, **fields})


def http_bytes(body, path="/v1/chat/completions", *headers):
    """The bytes of a POST request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def equal(found, expected, about=""):
    assert found == expected, f"{about}: found {found!r}, expected {expected!r}"


def expect_error(answer, status, *words, code=None, param=None):
    """Checks an error of OpenAI's form."""
    equal(answer.status, status, answer.body[:300])
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    equal(set(answer.json), {"error"})
    error = answer.error
    equal(set(error), {"message", "type", "param", "code"})
    assert isinstance(error["message"], str) and error["message"], error
    assert len(error["message"]) < 1000, f"a message of {len(error['message'])} characters"
    assert isinstance(error["type"], str) and error["type"], error
    assert error["param"] is None or isinstance(error["param"], str), error
    assert error["code"] is None or isinstance(error["code"], str), error
    for word in words:
        assert word in error["message"], f"{word!r} is not in {error['message']!r}"
    if code is not None:
        equal(error["code"], code, error["message"])
    if param is not None:
        equal(error["param"], param, error["message"])
    return error


def expect_works(server):
    """Checks that the next request is answered."""
    answer = server.chat(short())
    equal(answer.status, 200, answer)
    equal(answer.json["choices"][0]["message"]["content"] != "", True, answer)


def bare_response(data):
    """Status and body of the first response in bytes."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), data[:200]
    return int(head.split()[1]), head.decode("latin-1"), body


def wait_for(condition, timeout=10):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def chunks_of(server, body):
    with server.stream(body) as stream:
        equal(stream.status, 200)
        equal(stream.headers["content-type"].split(";")[0], "text/event-stream")
        equal(stream.headers["cache-control"], "no-cache")
        return [chunk for _, chunk in stream.chunks()]


OPTIONS = {
    "n": {"n": 2, "temperature": 1, "seed": 4},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "stop": {"stop": ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0", "E"]},
    "json_schema": {"response_format": {"type": "json_schema", "json_schema": {
        "name": "answer", "schema": {
            "type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"],
            "additionalProperties": False}}}},
    "json_object": {"response_format": {"type": "json_object"}},
    "max_tokens": {"max_tokens": 2},
    "no tokens": {"max_tokens": 0},
    "sampled": {"temperature": 0.8, "top_p": 0.9, "top_k": 20, "seed": 7, "frequency_penalty": 0.5},
    "newer name": {"max_completion_tokens": 3},
    "ignore_eos": {"ignore_eos": True},
    "text only": {"messages": [
        {"role": "system", "content": "Answer in short."}, {"role": "user", "content": "What number?"}]},
}

POLICIES = [
    ({"policy": "none"}, ["--policy", "none"], [576]),
    ({"policy": "fastv", "fastv_k": 3, "fastv_r": 0.75}, ["--policy", "fastv", "--fastv-k", "3", "--fastv-r", "0.75"],
     [576, 144]),
    ({"lambda": 0.4}, ["--lambda", "0.4"], None),
    ({"policy": "pyramiddrop", "target_tokens": 200}, ["--target-tokens", "200"], None),
    ({"layer_list": [4, 12], "image_token_ratio_list": [0.5, 0.1]},
     ["--layer-list", "4,12", "--image-token-ratio-list", "0.5,0.1"], [576, 288, 57]),
    ({"preselect": "scope", "preselect_tokens": 64}, ["--preselect", "scope", "--preselect-tokens", "64"],
     [64, 32, 16, 8]),
    ({"policy": "none", "preselect": "mmtok", "target_flops": 0.2},
     ["--policy", "none", "--preselect", "mmtok", "--target-flops", "20%"], None),
    ({"recipe": "tops-64"}, ["--recipe", "tops-64"], [128, 64, 16]),
]
