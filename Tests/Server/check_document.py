"""The OpenAPI document of pdrop-serve against its answers."""
import json

from checks import OPTIONS, POLICIES, check, chunks_of, equal, short
from server import ROOT, question


@check("--metrics")
def openapi_document(server):
    document = json.loads((ROOT / "docs/openapi.json").read_text())
    assert document["openapi"].startswith("3.1."), document["openapi"]
    model = server.get("/v1/models").json["data"][0]["id"]
    bodies = {
        "/v1/chat/completions": short(), "/chat/completions": short(), "/tokenize": {"content": "a"},
        "/detokenize": {"tokens": [300]}, "/apply-template": short()}
    answers = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answer = server.request(method.upper(), path.replace("{id}", model), bodies.get(path))
            equal(answer.status, 200, path)
            media_type = answer.headers["content-type"].split(";")[0]
            assert media_type in operation["responses"]["200"]["content"], (path, media_type)
            answers.append((path, method, 200, answer))
    for path in ("/", "/health", "/v1/health", "/v1/models", "/models", "/v1/models/{id}", "/props", "/slots",
                 "/metrics", *bodies):
        assert path in document["paths"], f"{path} is not in the document"

    chat = "/v1/chat/completions"
    for options in (*OPTIONS.values(), {"pdrop": {"kept": True, "maps": True}}, {"pdrop": {"policy": "none"}},
                    {"pdrop": {"policy": "fastv"}}, {"pdrop": {"target_flops": "45%"}},
                    {"pdrop": {"preselect": "scope", "preselect_tokens": 64, "kept": True, "maps": True}},
                    {"pdrop": {"recipe": "tops-64"}}):
        answers.append((chat, "post", 200, server.chat({**short(max_tokens=24), **options})))
    for body in ({}, short(n=0), question("What?", b"no image"), {**short(), "pdrop": {"policy": "other"}}):
        answers.append((chat, "post", 400, server.chat(body)))
    answers.append(("/v1/models/{id}", "get", 404, server.get("/v1/models/other")))
    answers.append(("/tokenize", "post", 200, server.post("/tokenize", {"content": "a", "with_pieces": True})))
    for path in ("/tokenize", "/detokenize", "/apply-template"):
        answers.append((path, "post", 400, server.post(path, {})))

    try:
        import jsonschema
    except ImportError:
        print("  jsonschema is not installed: answers are not validated against docs/openapi.json")
        return

    def validate(value, schema):
        # References are to the whole document.
        jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)

    def resolved(value):
        while "$ref" in value:
            target = document
            for key in value["$ref"].removeprefix("#/").split("/"):
                target = target[key]
            value = target
        return value

    for path, method, status, answer in answers:
        equal(answer.status, status, (path, answer))
        content = resolved(document["paths"][path][method]["responses"][str(status)])["content"]
        if "application/json" in content:
            validate(answer.json, content["application/json"]["schema"])
    chunk = {"$ref": "#/components/schemas/ChatCompletionChunk"}
    for options in (*OPTIONS.values(), {"return_progress": True, "stream_options": {"include_usage": True}},
                    {"pdrop": {"kept": True, "maps": True}}):
        for value in chunks_of(server, {**short(max_tokens=24), **options}):
            validate(value, chunk)
    request = document["paths"][chat]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for options in (*OPTIONS.values(), *({"pdrop": policy} for policy, _, _ in POLICIES)):
        validate({**short(), **options}, request)
