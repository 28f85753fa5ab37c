#!/usr/bin/env python3
"""Writes the seeds of the fuzzing targets, taken from goldens, fixtures and field cases, as OUT/TARGET/NAME.

usage: corpus.py OUT
"""

import hashlib
import json
import math
import pathlib
import struct
import sys
import zipfile

TESTS = pathlib.Path(__file__).resolve().parent.parent
# Longer inputs make fuzzing slow; what a reader does with them is in shorter ones too.
LIMIT = 8192


def files(*patterns):
    """The contents of the files of some patterns, below the tests."""
    return [p.read_bytes() for pattern in patterns for p in sorted(TESTS.glob(pattern)) if p.is_file()]


def safetensors(tensors, metadata=None):
    """A file of tensors, as (name, type, shape, bytes)."""
    header, payload = ({"__metadata__": metadata} if metadata else {}), b""
    for name, kind, shape, data in tensors:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(payload), len(payload) + len(data)]}
        payload += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def gguf(pairs, tensors):
    """A GGUF file of pairs by key, and of tensors as (name, dimensions, type, bytes), the columns first."""
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    def value(v):
        if isinstance(v, bool):
            return struct.pack("<IB", 7, v)
        if isinstance(v, int):
            return struct.pack("<II", 4, v)
        if isinstance(v, float):
            return struct.pack("<If", 6, v)
        if isinstance(v, str):
            return struct.pack("<I", 8) + text(v)
        kind, items = (8, [text(i) for i in v]) if isinstance(v[0], str) else (
            (6, [struct.pack("<f", i) for i in v]) if isinstance(v[0], float) else (5, [struct.pack("<i", i) for i in v]))
        return struct.pack("<IIQ", 9, kind, len(v)) + b"".join(items)

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(text(k) + value(v) for k, v in pairs.items())
    data = b""
    for name, dims, kind, content in tensors:
        head += text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims) + struct.pack("<IQ", kind, len(data))
        data += content + bytes(-len(content) % 32)
    return head + bytes(-len(head) % 32) + data


def floats(name, dims):
    """A tensor of small numbers in f32, for `gguf`."""
    count = math.prod(dims)
    return name, dims, 0, struct.pack(f"<{count}f", *[i % 7 / 8 for i in range(count)])


def gguf_files():
    """Files of one tensor, of every type that is read and of one that is not, with metadata of several types."""
    keys = {
        "general.alignment": 32, "a": "text", "b": True, "c": 0.5, "d": ["x", "yz"], "e": [1, 2], "f": [0.5],
        "split.count": 1}
    # The tensor type, the values of a block and its bytes.
    types = [
        (0, 1, 4), (1, 1, 2), (30, 1, 2), (2, 32, 18), (3, 32, 20), (6, 32, 22), (7, 32, 24), (8, 32, 34), (10, 256, 84),
        (11, 256, 110), (12, 256, 144), (13, 256, 176), (14, 256, 210), (20, 32, 18), (23, 256, 136), (24, 1, 1)]
    for index, (kind, values, size) in enumerate(types):
        key = list(keys)[index % len(keys)]
        content = bytes((37 * i + 60) % 256 for i in range(2 * size))
        yield gguf({key: keys[key]}, [("t", [values, 2], kind, content)])
    yield gguf(keys, [floats("t", [2, 1, 3]), ("u", [32], 2, bytes(18))])


def gguf_pairs():
    """Pairs of tiny files of both architectures: the length of the first, then both."""
    for kind in ("llama", "qwen2"):
        keys = {
            "context_length": 64, "embedding_length": 8, "block_count": 1, "feed_forward_length": 6,
            "attention.head_count": 2, "attention.head_count_kv": [2], "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.freq_base": 1e4, "rope.scaling.type": "linear", "rope.scaling.factor": 2.0,
            "attention.sliding_window": 32}
        layer = [
            ("attn_norm", [8]), ("attn_q", [8, 8]), ("attn_k", [8, 8]), ("attn_v", [8, 8]), ("attn_output", [8, 8]),
            ("ffn_norm", [8]), ("ffn_gate", [8, 6]), ("ffn_up", [8, 6]), ("ffn_down", [6, 8])]
        tensors = [("token_embd.weight", [8, 5]), ("output_norm.weight", [8]), ("output.weight", [8, 5])]
        tensors += [(f"blk.0.{n}.weight", d) for n, d in layer]
        if kind != "llama":
            tensors += [(f"blk.0.attn_{n}.bias", [8]) for n in "qkv"]
        model = gguf(
            {"general.architecture": kind, **{f"{kind}.{k}": v for k, v in keys.items()},
             "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "a", "b"], "tokenizer.ggml.scores": [0.0, -1.0]},
            [floats(*t) for t in tensors])
        clip = {
            "has_vision_encoder": True, "projector_type": "mlp", "use_gelu": False, "vision.image_size": 4,
            "vision.patch_size": 2, "vision.embedding_length": 4, "vision.feed_forward_length": 12,
            "vision.block_count": 1, "vision.attention.head_count": 2, "vision.attention.layer_norm_epsilon": 1e-5,
            "vision.image_mean": [0.5, 0.25, 0.75], "vision.image_std": [0.1, 0.2, 0.3]}
        if kind == "llama":
            clip["vision.image_grid_pinpoints"] = [4, 8, 8, 4]
            clip["vision.mm_patch_merge_type"] = "spatial_unpad"
        tensors = [
            ("v.class_embd", [4]), ("v.patch_embd.weight", [2, 2, 3, 4]), ("v.position_embd.weight", [4, 5]),
            ("mm.0.weight", [4, 8]), ("mm.0.bias", [8]), ("mm.2.weight", [8, 8]), ("mm.2.bias", [8]),
            ("model.image_newline", [8])]
        tensors += [(f"v.{n}.{p}", [4]) for n in ("pre_ln", "blk.0.ln1", "blk.0.ln2") for p in ("weight", "bias")]
        for name, dims in [(f"attn_{n}", [4, 4]) for n in ("q", "k", "v", "out")] + [
                ("ffn_down", [4, 12]), ("ffn_up", [12, 4])]:
            tensors += [(f"v.blk.0.{name}.weight", dims), (f"v.blk.0.{name}.bias", dims[1:])]
        yield struct.pack("<H", len(model)) + model + gguf(
            {"general.architecture": "clip", **{f"clip.{k}": v for k, v in clip.items()}},
            [floats(*t) for t in tensors])


def pickles(archives):
    for path in archives:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from (archive.read(n) for n in archive.namelist() if n.endswith("data.pkl"))


def fields(message):
    """The fields of a protobuf message, as (number, bytes with their key)."""
    position = 0

    def varint():
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(message):
        start = position
        key = varint()
        position += {0: 0, 1: 8, 5: 4}.get(key & 7, 0)
        if key & 7 == 0:
            varint()
        if key & 7 == 2:
            size = varint()
            position += size
        yield key >> 3, message[start:position]


def small_sentencepiece(model):
    """A model of fewer pieces: the special ones, the bytes, and the first others, without byte fallback if cut."""
    pieces = [data for number, data in fields(model) if number == 1]
    rest = b"".join(data for number, data in fields(model) if number != 1)
    yield b"".join(pieces[:3] + pieces[259:300]) + rest
    yield b"".join(pieces[:300]) + rest


def small_tokenizers(text):
    """tokenizer.json with the tokens of its first merges only, with and without the byte tokens."""
    for keeps_bytes in (False, True):
        value = json.loads(text)
        model = value["model"]
        merges = model["merges"][:20]
        used = {part for merge in merges for part in (merge.split(" ") if isinstance(merge, str) else merge)}
        used |= {"".join(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges}
        special = {token["content"] for token in value["added_tokens"]}
        names = [
            token for token in model["vocab"]
            if token in used or token in special or (keeps_bytes and token.startswith("<0x"))]
        model["vocab"] = {name: i for i, name in enumerate(names)}
        model["byte_fallback"] = keeps_bytes and model.get("byte_fallback", False)
        model["merges"] = merges
        value["added_tokens"] = [
            token | {"id": model["vocab"].get(token["content"], len(names) + i)}
            for i, token in enumerate(value["added_tokens"])]
        yield json.dumps(value, ensure_ascii=False).encode()


def gguf_tokenizers(data):
    """The tokenizer of a GGUF file as JSON: the special tokens and the first others, with and without byte tokens."""
    position = 24
    sizes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def value(kind):
        nonlocal position
        if kind == 8:
            size = value(10)
            position += size
            return data[position - size : position].decode()
        if kind == 9:
            element, count = value(4), value(10)
            return [value(element) for _ in range(count)]
        (result,) = struct.unpack_from("<" + sizes[kind], data, position)
        position += struct.calcsize("<" + sizes[kind])
        return result

    values = {}
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        key = value(8)
        values[key] = value(value(4))
    values = {key: v for key, v in values.items() if key.startswith("tokenizer.ggml.")}
    tokens, types = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    merges = values.get("tokenizer.ggml.merges", [])[:20]
    parts = {part for merge in merges for part in [*merge.split(" "), merge.replace(" ", "")]}
    for kinds in ({1, 2, 3, 4}, {1, 2, 3, 4, 6}):
        others = [i for i, token in enumerate(tokens) if types[i] == 1 and token not in parts][:20]
        ids = [i for i, kind in enumerate(types) if kind in kinds and (kind != 1 or tokens[i] in parts or i in others)]
        small = {key: [v[i] for i in ids] if isinstance(v, list) else v for key, v in values.items() if "merges" not in key}
        for key, v in values.items():
            if key.endswith("_id"):
                small[key] = ids.index(v) if v in ids else 0
        if merges:
            small["tokenizer.ggml.merges"] = merges
        yield json.dumps(small, ensure_ascii=False).encode()


def metadata_blocks(image):
    """The contents of the APP1 segments of a JPEG and of the chunks of a PNG."""
    if image.startswith(b"\xff\xd8"):
        position = 2
        while position + 4 <= len(image) and image[position] == 0xFF and image[position + 1] != 0xDA:
            size = struct.unpack(">H", image[position + 2 : position + 4])[0]
            data = image[position + 4 : position + 2 + size]
            if image[position + 1] == 0xE1:
                yield (0, data[6:]) if data.startswith(b"Exif") else (1, data[29:])
            position += 2 + size
    elif image.startswith(b"\x89PNG"):
        position = 8
        while position + 8 <= len(image):
            size, kind = struct.unpack(">I4s", image[position : position + 8])
            data = image[position + 8 : position + 8 + size]
            if kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                yield {b"eXIf": 3, b"iTXt": 4}.get(kind, 5), data if kind == b"eXIf" else data.split(b"\0", 1)[-1]
            position += 12 + size


def templates():
    for text in files("Goldens/**/chat_template.json", "Field/**/chat_template.json"):
        yield json.loads(text)["chat_template"].encode()
    yield from files("Goldens/**/chat_template.jinja", "Field/**/*.jinja")


def expressions():
    """Templates of ten expressions each, from the tests of the interpreter."""
    for text in files("JinjaTests/Fixtures/expressions.json"):
        sources = [case[0] for case in json.loads(text)["cases"]]
        yield from ("\n".join(sources[i : i + 10]).encode() for i in range(0, len(sources), 10))
    for text in files("JinjaTests/Fixtures/templates.json"):
        found = json.loads(text)["templates"]
        yield from (t.encode() for t in (found.values() if isinstance(found, dict) else found) if isinstance(t, str))


def lines(*patterns):
    """Files of lines, shortened to their first three."""
    return [b"\n".join(text.split(b"\n")[:3]) + b"\n" for text in files(*patterns)]


def tables():
    for text in files("Field/cases/**/*.tsv"):
        rows = [row.split(b"\t") for row in text.split(b"\n")]
        yield b"\n".join(b"\t".join(field[:40] for field in row) for row in rows)
    yield b'index\tquestion\timage\tanswer\tA\r\n0\t"What ""is""\n it?"\tAA==\t"[\'a\', ""it\'s""]"\tb\r\n\n'


CONSTRAINTS = [
    b'{"type":"object","properties":{"a":{"type":"integer","minimum":-20,"exclusiveMaximum":120},"b":{"type":"string",'
    b'"minLength":1,"maxLength":9}},"required":["a"],"additionalProperties":false}',
    b'{"type":"array","items":{"anyOf":[{"enum":["x",1.5,null]},{"$ref":"#/$defs/n"}]},"minItems":1,"maxItems":3,'
    b'"$defs":{"n":{"type":["number","null"],"minimum":0.25,"maximum":1.5}}}',
    b'{"type":"object","properties":{"d":{"type":"string","format":"date-time"},"p":{"type":"string","pattern":"^[a-f]{2,4}$"},'
    b'"c":{"const":{"k":[true]}},"r":{"$ref":"#"}}}',
    rb"[0-9]{3}-(?:ab|[^c-x\d])+\.?\u00e9*", b"(a|b*?)(c{2}|.){0,3}$",
]
OPENAI = {
    "custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
    "body": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                {"type": "image", "image": "a.png"}]}],
        "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": -1, "seed": 7, "stop": ["x"], "n": 1}}
CHAT_REQUESTS = [
    OPENAI["body"],
    {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": "https://example.org/a.png"},
        {"type": "image_url", "image_url": {"url": "file://a.png", "detail": "low"}}]}],
     "stream": True, "stream_options": {"include_usage": True}, "return_progress": True, "logprobs": True,
     "top_logprobs": 2, "logit_bias": {"5": -1}, "response_format": {"type": "json_object"}, "user": "u",
     "pdrop": {"policy": "pyramiddrop", "layer_list": [8, 16], "image_token_ratio_list": [0.5, 0.25], "kept": True}},
    {"messages": [{"role": "developer", "content": "x"}, {"role": "user", "content": "y"}], "tools": [{}],
     "pdrop": {"policy": "fastv", "fastv_k": 2, "fastv_r": 0.5, "rank": "key-norm", "target_flops": "45%"}}]
LLAVA = {"question_id": 1, "image": ["file:///a%20b.png", "a.png"], "text": "What is it?", "category": "c"}
ANSWERS = [
    {"question_id": 1, "prompt": "What?", "text": "It.", "answer_id": "1", "model_id": "m", "metadata": {
        "flops": {"prefill": 5, "rank": 1}, "flops_prefill_without_dropping": 9}},
    {"question_id": "b", "answer_id": "2", "error": {"code": "bad_record", "message": "x"}},
    {"custom_id": "c", "id": "pdrop-3", "response": {"status_code": 200, "body": {}}, "error": None}]


def encoded(*values):
    return ["".join(json.dumps(v) + "\n" for v in values).encode()]


def seeds():
    configurations = files("Goldens/**/config.json", "Fixtures/**/config.json", "Field/**/config.json")
    preprocessors = files("Goldens/**/preprocessor_config.json", "Field/**/preprocessor_config.json")
    messages = json.dumps(OPENAI["body"]["messages"]).encode()
    tokenizer_files = [
        json.dumps({
            "configuration": json.loads((folder / "tokenizer_config.json").read_text()),
            "added": json.loads((folder / "added_tokens.json").read_text()),
            "map": json.loads((folder / "special_tokens_map.json").read_text())}).encode()
        for folder in (TESTS / "Goldens/tokenizer", TESTS / "Goldens/tokenizer_metaspace")]
    torch = sorted((TESTS / "Fixtures/torch").glob("*.bin"))
    images = {kind: files(f"Fixtures/images/*.{kind}", f"Field/cases/A*/*.{kind}") for kind in ("jpg", "png", "webp")}
    tensor = ("a", "F32", [2, 3], bytes(24))
    return {
        "answers": encoded(*ANSWERS) + lines("Field/cases/**/answers/*.jsonl"),
        "chat-request": encoded(*CHAT_REQUESTS),
        "chat-template": list(templates()),
        "config": configurations,
        "constraint": CONSTRAINTS,
        "conversation": [messages, json.dumps(OPENAI["body"]).encode()],
        "exif": [bytes([place]) + data for image in images["jpg"] + images["png"] for place, data in metadata_blocks(image)],
        "gguf": list(gguf_files()),
        "gguf-model": list(gguf_pairs()),
        "gguf-tokenizer": [
            small for data in files("Fixtures/tokenizers/gguf/*.gguf") for small in gguf_tokenizers(data)],
        "jinja": [*templates(), *expressions()],
        "jpeg": images["jpg"],
        "json": configurations + preprocessors + [b'{"a": [1, -2.5e3, "\\ud83d\\ude00\\n", true, false, null, {}]}'],
        "pickle": list(pickles(torch)),
        "png": images["png"],
        "preprocessor": preprocessors,
        "records": encoded(LLAVA, OPENAI) + lines("Field/cases/*/q*.jsonl"),
        "safetensors": files("Goldens/ops/*.safetensors", "Fixtures/torch/*.safetensors") + [
            safetensors([tensor, ("b", "BF16", [0, 5], b""), ("c", "I64", [], bytes(8))], {"format": "pt"}),
            safetensors([tensor, ("xxh64", "U64", [2], bytes(16))])],
        "sentencepiece": [small for model in files("Goldens/tokenizer/tokenizer.model") for small in small_sentencepiece(model)],
        "text": ["Hello <image>\nWörld 😀 <s></s> 1234 don't  \t".encode(), b"\xff\x00<0x41>", "e\u0301\u212b".encode()],
        "tokenizer-config": tokenizer_files,
        "tokenizer-json": [
            small for text in files("Goldens/tokenizer*/tokenizer.json", "Fixtures/tokenizers/*/tokenizer.json")
            for small in small_tokenizers(text)],
        "torch": [p.read_bytes() for p in torch],
        "tsv": list(tables()),
        "webp": images["webp"],
    }


def write(out):
    """Writes all seeds that are not too long."""
    for target, contents in seeds().items():
        folder = out / target
        folder.mkdir(parents=True, exist_ok=True)
        short = [content for content in contents if len(content) <= LIMIT]
        if not short:
            sys.exit(f"{target}: no seed of at most {LIMIT} bytes")
        for content in short:
            (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
