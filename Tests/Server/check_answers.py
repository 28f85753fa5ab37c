"""Routes, answers and streams of pdrop-serve."""
import json
import pathlib
import re
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from checks import (
    BIKE, OPTIONS, POLICIES, RIVER, check, chunks_of, equal, expect_error, expect_works, http_bytes, long, short,
    wait_for)
from server import MODELS, evaluation_questions, question


@check("--metrics")
def every_route_answers(server):
    models = server.get("/v1/models").json
    equal(models["object"], "list")
    model = models["data"][0]
    equal(model["object"], "model")
    equal(model["architecture"]["input_modalities"], ["text", "image"])
    equal(server.get("/models").json, models)
    equal(server.get("/v1/models/" + model["id"]).json, model)
    for path in ("/health", "/v1/health"):
        equal(server.get(path).json, {"status": "ok"})
    properties = server.get("/props").json
    equal(properties["modalities"], {"vision": True})
    slots = server.get("/slots").json
    equal(len(slots), properties["total_slots"])
    equal([slot["is_processing"] for slot in slots], [False] * len(slots))
    equal(server.get("/slots?fail_on_no_slot=1").status, 200)
    page = server.get("/")
    assert page.headers["content-type"].startswith("text/html"), page.headers


@check("--metrics")
def tokenizer_routes(server):
    text = "What number is at the top right?"
    tokens = server.post("/tokenize", {"content": text}).json["tokens"]
    assert tokens and all(isinstance(token, int) for token in tokens), tokens
    equal(server.post("/detokenize", {"tokens": tokens}).json, {"content": text})
    pieces = server.post("/tokenize", {"content": text, "with_pieces": True, "add_special": True}).json["tokens"]
    equal([piece["id"] for piece in pieces][1:], tokens)
    equal(pieces[0]["piece"], "<s>")
    prompt = server.post("/apply-template", short()).json["prompt"]
    assert "<image>" in prompt and "What number" in prompt, prompt
    # Images are not read for it.
    equal(server.post("/apply-template", question("What number?", "https://example.org/a.png")).status, 200)


@check("--metrics")
def metrics_have_the_text_form(server):
    equal(server.chat(short()).status, 200)
    answer = server.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4"), answer.headers
    types, values = {}, {}
    for line in answer.body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types, name
            types[name] = kind
        elif not line.startswith("#"):
            name, value = re.fullmatch(r'([a-zA-Z_:][\w:]*(?:\{\w+="[^"]*"\})?) (\S+)', line).groups()
            assert name not in values, name
            values[name] = float(value)
            family = re.sub(r"\{.*", "", name)
            assert family in types or re.sub("_(bucket|sum|count)$", "", family) in types, name
    assert values["pdrop:prompt_tokens_total"] > 576, values
    for name in ("tokens_predicted_total", "image_tokens_total", "image_tokens_dropped_total", "images_total",
                 "prefill_flops_saved_total", "vision_encoder_seconds_total", "prompt_seconds_total"):
        assert values["pdrop:" + name] > 0, name
    for name, kind in types.items():
        if kind == "histogram":
            buckets = [value for key, value in values.items() if key.startswith(name + "_bucket")]
            equal(sorted(buckets), buckets, name)
            equal(buckets[-1], values[name + "_count"], name)
            assert buckets[-1] > 0 or "inter_token" in name, name


@check()
def metrics_are_off_by_default(server):
    expect_error(server.get("/metrics"), 501, "--metrics")


@check("--metrics")
def unknown_routes(server):
    for method, path in (("GET", "/nothing"), ("POST", "/v1/completions"), ("GET", "/v1/chat/completions"),
                         ("POST", "/v1/embeddings"), ("PUT", "/v1/models"), ("GET", "/v1/models/other"),
                         ("GET", "/../etc/passwd"), ("GET", "/%00"), ("GET", "/%2e%2e/%2e%2e/etc/passwd")):
        expect_error(server.request(method, path), 404)
    equal(server.request("HEAD", "/health").status, 200, "HEAD /health")
    expect_works(server)


def batch(program, bodies, *options):
    """The answers of `pdrop-run --input` to bodies."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [json.dumps({"custom_id": str(index), "method": "POST", "url": "/v1/chat/completions", "body": body})
                 for index, body in enumerate(bodies)]
        pathlib.Path(folder, "in.jsonl").write_text("\n".join(lines) + "\n")
        subprocess.run(
            [program, "-m", MODELS / "tiny-textvqa", "--input", folder + "/in.jsonl", "--output", folder + "/out.jsonl",
             "--progress", "none", "-n", "1024", *options], check=True, timeout=60, capture_output=True)
        answers = [json.loads(line) for line in pathlib.Path(folder, "out.jsonl").read_text().splitlines()]
    answers = {answer["custom_id"]: answer for answer in answers}
    return [answers[str(index)]["response"]["body"] for index in range(len(bodies))]


def essence(completion):
    """What must be equal in the answers of the server and of the batch."""
    choices = [{**choice, "logprobs": choice.get("logprobs")} for choice in completion["choices"]]
    usage = {name: completion["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return choices, usage


def equal_answers(answers, expected):
    for number, (answer, completion) in enumerate(zip(answers, expected, strict=True)):
        equal(answer.status, 200, answer)
        equal(essence(answer.json), essence(completion), f"request {number}")


@check("--metrics")
def answers_equal_those_of_pdrop_run(server):
    bodies = evaluation_questions(12) + [{**short(max_tokens=24), **options} for options in OPTIONS.values()]
    expected = batch(server.pdrop_run, bodies)
    assert len({completion["choices"][0]["message"]["content"] for completion in expected[:12]}) > 5
    equal_answers([server.chat(body) for body in bodies], expected)
    with ThreadPoolExecutor(8) as pool:
        equal_answers(pool.map(server.chat, bodies), expected)
    named = dict(zip(OPTIONS, expected[12:]))
    equal([choice["index"] for choice in named["n"]["choices"]], [0, 1])
    assert json.loads(named["json_schema"]["choices"][0]["message"]["content"])["number"] is not None
    equal(named["no tokens"]["choices"][0]["message"]["content"], "")


@check("--metrics")
def policies_equal_those_of_pdrop_run(server):
    bodies = evaluation_questions(3)
    for policy, options, stages in POLICIES:
        expected = batch(server.pdrop_run, bodies, *options)
        answers = [server.chat({**body, "pdrop": policy}) for body in bodies]
        equal_answers(answers, expected)
        for answer, completion in zip(answers, expected):
            dropping = answer.json["pdrop"]
            equal(dropping["policy"], completion["metadata"]["policy"], policy)
            equal(dropping["visual_tokens_per_stage"], completion["metadata"]["visual_tokens"], policy)
            equal(dropping["flops_baseline"], completion["metadata"]["flops_prefill_without_dropping"], policy)
            assert stages is None or dropping["visual_tokens_per_stage"] == stages, dropping


@check("--metrics")
def kept_tokens_and_maps(server):
    start = time.monotonic()
    answer = server.chat(question("What is this?", BIKE, RIVER, max_tokens=2, pdrop={"kept": True, "maps": True})).json
    assert time.monotonic() - start < 5, "maps take too long"
    dropping = answer["pdrop"]
    stages = dropping["visual_tokens_per_stage"]
    equal(stages[0], 1152)
    equal([sum(len(image) for image in stage) for stage in dropping["kept"]], stages[1:])
    equal(len(dropping["maps"]), 2)
    for index, image in enumerate(dropping["maps"]):
        region = image["regions"][0]
        assert region["png"].startswith("data:image/png;base64,iVBOR"), region["png"][:40]
        equal(len(image["places"]), region["rows"] * region["columns"])
        equal([stage["kept"] for stage in image["stages"]], [stage[index] for stage in dropping["kept"]])
        for stage in image["stages"]:
            equal(len(stage["scores"]), len(image["places"]))
    # The same in a stream: maps before the text, kept tokens at its end.
    with server.stream(question("What is this?", BIKE, max_tokens=2, pdrop={"kept": True, "maps": True})) as stream:
        chunks = [chunk for _, chunk in stream.chunks()]
    equal([index for index, chunk in enumerate(chunks) if "maps" in chunk.get("pdrop", {})], [0])
    equal([index for index, chunk in enumerate(chunks) if "kept" in chunk.get("pdrop", {})], [len(chunks) - 1])


@check("--metrics")
def answer_has_its_costs(server):
    answer = server.chat(short()).json
    assert re.fullmatch("chatcmpl-[0-9a-f]{32}", answer["id"]), answer["id"]
    equal(answer["object"], "chat.completion")
    assert abs(answer["created"] - time.time()) < 60
    usage = answer["usage"]
    equal(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
    equal(usage["prompt_tokens_details"]["image_tokens"], 576)
    for name in ("queue_ms", "image_ms", "vision_encoder_ms", "prefill_ms", "ranking_ms", "decode_ms",
                 "time_to_first_token_ms", "prompt_ms", "predicted_ms", "predicted_per_second"):
        assert answer["timings"][name] >= 0, name
    equal(answer["timings"]["predicted_n"], usage["completion_tokens"])
    dropping = answer["pdrop"]
    assert 0 < dropping["flops"] < dropping["flops_baseline"], dropping
    # The second time, the image is in a cache.
    again = server.chat(short()).json
    equal(again["choices"], answer["choices"])
    assert again["timings"]["vision_encoder_ms"] == 0 or again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def check_stream(server, body, whole):
    """Checks the form of a stream, and that it has the same content as the whole answer."""
    chunks = chunks_of(server, {**body, "stream_options": {"include_usage": True}})
    first = chunks[0]
    for chunk in chunks:
        for name in ("id", "created", "model", "system_fingerprint"):
            equal(chunk[name], first[name], name)
        equal(chunk["object"], "chat.completion.chunk")
    equal(chunks[-1]["choices"], [])
    # Only the last chunk has the usage.
    equal([index for index, chunk in enumerate(chunks) if chunk.get("usage")], [len(chunks) - 1])
    details = "prompt_tokens_details"
    equal({**chunks[-1]["usage"], details: None}, {**whole["usage"], details: None})
    equal({"timings", "pdrop"} <= set(chunks[-2]), True, "the last chunk of the answers has the costs")
    equal(chunks[-2]["pdrop"], whole["pdrop"])
    for choice in whole["choices"]:
        deltas = [part for chunk in chunks for part in chunk["choices"] if part["index"] == choice["index"]]
        equal(deltas[0]["delta"]["role"], "assistant")
        assert not deltas[0]["delta"].get("content"), deltas[0]
        equal(deltas[-1]["delta"], {})
        equal([part["finish_reason"] for part in deltas], [None] * (len(deltas) - 1) + [choice["finish_reason"]])
        for part in deltas[1:-1]:
            equal(set(part["delta"]), {"content"})
        equal("".join(part["delta"].get("content") or "" for part in deltas), choice["message"]["content"])
        tokens = [token for part in deltas for token in (part.get("logprobs") or {}).get("content", [])]
        equal(tokens, (choice["logprobs"] or {}).get("content", []))


@check("--metrics")
def streams_equal_whole_answers(server):
    bodies = evaluation_questions(6) + [{**short(max_tokens=24), **options} for options in OPTIONS.values()]
    for body in bodies:
        check_stream(server, body, server.chat(body).json)


@check("--metrics")
def stream_without_usage(server):
    chunks = chunks_of(server, short())
    assert not any(chunk.get("usage") for chunk in chunks), chunks
    equal(chunks[-1]["choices"][0]["finish_reason"], "length")


@check("--metrics")
def progress_comes_before_the_text(server):
    chunks = chunks_of(server, question("What is new here?", RIVER, max_tokens=3, return_progress=True))
    progress = [chunk["prompt_progress"] for chunk in chunks if "prompt_progress" in chunk]
    assert len(progress) >= 32, len(progress)
    assert all("prompt_progress" in chunk for chunk in chunks[:len(progress)])
    equal({step["phase"] for step in progress} | {"vision_encoder"}, {"vision_encoder", "prefill"})
    for step in progress:
        assert 0 <= step["processed"] < step["total"] and step["time_ms"] >= 0, step
    equal(sorted(step["stage"] for step in progress), [step["stage"] for step in progress])
    equal({step["stage"] for step in progress if step["phase"] == "prefill"}, {1, 2, 3, 4})


@check("--metrics", "-b", "1")
def pings_while_waiting(server):
    blocker = server.connect()
    blocker.sendall(http_bytes(long()))
    wait_for(lambda: server.busy_slots() > 0)
    closing = threading.Timer(0.8, blocker.close)
    closing.start()
    with server.stream(short(sse_ping_interval=0.1)) as stream:
        lines = [line for _, line in stream]
    closing.join()
    pings = [index for index, line in enumerate(lines) if line.startswith(":")]
    assert len(pings) >= 3, lines
    equal(pings, list(range(len(pings))), "pings come before the answer")
    assert all(line.startswith("data: ") for line in lines[len(pings):]), lines
    equal(lines[-1], "data: [DONE]")
    server.wait_until_idle()


@check("--metrics")
def failed_stream_has_a_status(server):
    with server.stream(question("What?", b"not an image")) as stream:
        equal(stream.status, 400)
        assert "error" in json.loads(stream.response.read())
    expect_works(server)
