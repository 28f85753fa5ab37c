"""What a user should get in each field case, as a check of what the programs print.

A check takes a `Case` of run.py, raises `Unmet` with what was found, and may return a remark for the table. Checks look
for the facts that a message has to name, such as a file, a key or a remedy, and leave its wording open.
"""

import json
import re
import struct
import time
import zlib


class Unmet(Exception):
    """What was found in place of what is expected."""


class Skipped(Exception):
    """Why this machine cannot run a case."""


CHECKS = {}


def case(name):
    def register(check):
        CHECKS[name] = check
        return check

    return register


# What many checks look at.

ASK = 'pdrop-run -m {model} --image a.png -p "What is it?" -n {count} --ignore-eos'
# Names of Swift types and of its decoding errors, which say nothing to a user.
SWIFT_NAMES = re.compile(
    r"\b(expected|found|found an?|not an?) (Int|Double|Float|String|Bool|Array|Dictionary)\b|Optional\(|Array<|"
    r"Dictionary<|Swift\.|DecodingError|keyNotFound|typeMismatch|something else")


def need(condition, found):
    if not condition:
        raise Unmet(found)


def has(text, *patterns):
    """Whether the text matches all patterns, without regard to case."""
    return all(re.search(pattern, text, re.IGNORECASE) for pattern in patterns)


def mentions(text, *patterns):
    missing = [p for p in patterns if not has(text, p)]
    need(not missing, f"nothing about {', '.join(missing)} in: {text.strip()[:160]!r}")


def one_error(run, *patterns, status=3):
    """One line of error that names all patterns, no answer, and the status."""
    need(len(run.errors) == 1, f"{len(run.errors)} lines of error, status {run.status}: {run.text[:160]!r}")
    line = run.errors[0]
    mentions(line, *patterns)
    need(not SWIFT_NAMES.search(line), f"a Swift type name in: {line[:160]}")
    need(status is None or run.status == status, f"status {run.status} with: {line[:160]}")
    return line


def answered(run):
    need(run.status == 0 and not run.errors, f"status {run.status}: {run.text.strip()[:160]!r}")
    return run.out


def same_answer(run, reference):
    expected, found = answered(reference), answered(run)
    need(found == expected, f"answered {found!r} in place of {expected!r}")
    return "answered as the reference"


def edit_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edited(case, model, name="edited", file="config.json", **values):
    """A copy of a model with values of its config.json replaced; `text_config__key` is a key of text_config."""
    case.run(f"rm -rf {name}; cp -r {model} {name}")

    def change(config):
        for key, value in values.items():
            *parents, last = key.split("__")
            target = config
            for parent in parents:
                target = target[parent]
            target[last] = value

    edit_json(case.path(name) / file, change)
    return name


def records(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def error_of(record):
    """Code and message of the error of a record; None for an answer."""
    error = record.get("error")
    if not error and (response := record.get("response")):
        error = (response.get("body") or {}).get("error")
    return (error["code"], error["message"]) if error else None


def prompt_of(run):
    """The prompt and the token ids that --verbose-prompt prints, which end before the image."""
    prompt = re.search(r'^prompt.*?: "(.*)"$', run.text, re.MULTILINE)
    tokens = re.search(r"^tokens: ([-0-9 ]+)$", run.text, re.MULTILINE)
    return prompt and prompt[1], tokens and [int(t) for t in tokens[1].split()]


def prompt_is(run, expected):
    found = prompt_of(run)[0]
    need(found == expected, f"prompt {found!r}; {run.text[:100]!r}")
    need(run.status == 0, f"status {run.status}")


def table(text):
    """The rows of a result table, as dictionaries by heading."""
    rows = [[c.strip() for c in line.strip().strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(rows[0], row)) for row in rows[2:]] if rows else []


def score(run, metric):
    """The score and the number of questions of a metric, such as (80.0, 10)."""
    rows = [row for row in table(run.out) if row["metric"].lower() == metric.lower()]
    need(rows, f"no row {metric!r}: {run.text.strip()[:160]!r}")
    value = next(v for k, v in rows[0].items() if k.startswith("score"))
    return float(value.split()[0]), int(rows[0]["questions"])


def tensor(path, name):
    """Shape and values of a U8 or F32 tensor of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8 : 8 + size])[name]
    start, end = (8 + size + offset for offset in entry["data_offsets"])
    return entry["shape"], data[start:end] if entry["dtype"] == "U8" else struct.unpack(f"<{(end - start) // 4}f", data[start:end])


def pixels(case, image, options=""):
    """The bytes of the prepared image, as the trace has them."""
    run = case.run(f'rm -rf trace; pdrop-run --image "{image}" {options} -p "What?" -n 1 --trace trace')
    need(run.status == 0, f"{image}: status {run.status}: {run.text.strip()[:120]!r}")
    return tensor(case.path("trace/trace.safetensors"), "pixels_u8")


def difference(a, b):
    """The mean difference of two images."""
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)


# A: images


@case("A06-not-a-picture")
def _(case):
    """Each error says what the file is, not only its first bytes."""
    kinds = {"html.jpg": "web page|html", "json.jpg": "json|xml", "lfs.png": r"\bLFS\b"}
    found = {r["question_id"]: error_of(r) for r in records(case.run().out)}
    need(found.keys() == kinds.keys() and all(found.values()), f"records {found}")
    for name, kind in kinds.items():
        mentions(found[name][1].replace(name, "-"), kind)


@case("A07-png-without-end")
def _(case):
    """All three are read with the pixels of good.png."""
    lines = case.run().out.splitlines()
    good = pixels(case, "good.png")
    for name in ("a.png", "b.png", "c.png"):
        need(f"{name} 0" in lines, f"{name}: {lines}")
        need(pixels(case, name) == good, f"{name} has other pixels than good.png")


@case("A08-jpeg-cut-then-another")
def _(case):
    """Refused as damaged."""
    run = case.run()
    need(run.out.splitlines()[-1:] == ["3"], f"status {run.out.strip()!r}")
    one_error(run, r"a\.jpg", "damaged|truncated|incomplete|cut|ends|missing", status=0)
    record = case.run('mkdir f; cp a.jpg f; pdrop-run --image-folder f -p "What?" -n 1 --no-timings --progress none')
    need([error_of(r)[0] for r in records(record.out)] == ["image_damaged"], f"record {record.out[:160]}")


@case("A12-orientation-missed")
def _(case):
    """Every image is turned by 90 degrees clockwise, as orientation 6 says."""
    lines = case.run().out.splitlines()
    names = sorted(p.name for p in case.folder.iterdir() if p.suffix in (".jpg", ".png"))
    need(sorted(lines) == [f"{name} turned" for name in names], f"not turned: {[x for x in lines if 'not' in x]}")
    for name in names:
        (_, _, size, _), upright = pixels(case, name, "--exif apply")
        _, stored = pixels(case, name, "--exif ignore")
        turned = bytes(
            stored[plane * size * size + (size - 1 - column) * size + row]
            for plane in range(3) for row in range(size) for column in range(size))
        need(difference(turned, upright) < 2, f"{name} is not turned by 90 degrees clockwise")


@case("A13-webp-one-frame")
def _(case):
    """Read, with the pixels of the frame."""
    run = case.run()
    need(run.out.splitlines()[-1:] == ["0"] and not run.errors, f"{run.text.strip()[:160]!r}")
    still = case.reference("A13-still.png")
    need(difference(pixels(case, "a.webp")[1], pixels(case, still)[1]) < 1, "other pixels than the frame")


# B: checkpoints


@case("B01-image-token-past-embedding")
def _(case):
    """Answers like the same model with the token at 591; if refused, the message says what to change."""
    run = case.run()
    if run.status:
        one_error(run, "image_token_index", r"\bset\b|change|resize|enlarge|extend|\badd\b|convert")
        return "refused with a remedy"
    other = case.sibling("B05-sliding-window", "m")
    return same_answer(run, case.run(ASK.format(model=edited(case, other, text_config__sliding_window=None), count=4)))


@case("B02-tokenizer-without-image")
def _(case):
    """Refused at load: the tokenizer has no <image>."""
    one_error(case.run(), "tokenizer", "<image>")


@case("B03-feature-layer-list-of-one")
def _(case):
    """Runs as with -2; a list of several is refused by name."""
    same_answer(case.run(), case.run(ASK.format(model=edited(case, "m", vision_feature_layer=-2), count=4)))
    several = edited(case, "m", "several", vision_feature_layer=[-2, -1])
    one_error(case.run(ASK.format(model=several, count=4)), "vision_feature_layer")


@case("B04-processor-file-contradicts")
def _(case):
    """A note that processor_config.json contradicts config.json and is not followed."""
    need(case.run().out.splitlines()[-1:] == ["grep: 0"], "nothing about processor or patch")
    run = case.run(ASK.format(model="m", count=4) + " -v")
    need(run.status == 0, f"status {run.status}")
    note = "\n".join(line for line in run.err.splitlines() if has(line, r"processor_config\.json"))
    mentions(note, "patch_size", "16", "strategy", "full", "image_token", "<img>")


@case("B05-sliding-window")
def _(case):
    """Answers as with sliding_window null; a prompt longer than the window is refused."""
    same_answer(case.run(), case.run(ASK.format(model=edited(case, "m", text_config__sliding_window=None), count=4)))
    short = case.run(ASK.format(model=edited(case, "m", "short", text_config__sliding_window=8), count=4))
    one_error(short, "window|context|8", status=None)


@case("B06-tower-by-absolute-path")
def _(case):
    """Runs on the CLIP directory beside the model."""
    named = ASK.format(model="model", count=4) + " --vision-tower clip-vit-large-patch14-336"
    return same_answer(case.run(), case.run(named))


@case("B07-missing-projector")
def _(case):
    """Names the tensor as this layout spells it, and mm_projector.bin if it is there."""
    name = r"(?<!multi_modal_projector)\bmm_projector\.0\.weight"
    need("multi_modal_projector" not in one_error(case.run(), name), "multi_modal_projector, a name of another layout")
    case.path("model/mm_projector.bin").write_bytes(b"\0" * 64)
    one_error(case.run(), r"mm_projector\.bin")


@case("B07-resampler-ignored")
def _(case):
    """Refused by name."""
    one_error(case.run(), "mm_resampler_type")


@case("B07-tied-at-the-top")
def _(case):
    """The same answer with the key and without it, by lm_head.weight of the file."""
    run = case.run()
    options = " --policy none"
    own = case.run(ASK.format(model=edited(case, "m", text_config__tie_word_embeddings=False), count=4) + options)
    both = [case.run(ASK.format(model=model, count=4) + options) for model in ("m", "without")]
    for each in both:
        same_answer(each, own)
    need(answered(run) == own.out * 2, f"answered {run.out!r}")


@case("B08-lora-adapter")
def _(case):
    """One line: this is a LoRA adapter, of some/base, and has to be merged first."""
    one_error(case.run(), "LoRA", "adapter", "merge", "some/base")


@case("B08-unmerged-lora-in-file")
def _(case):
    """Refused, or a warning without -v."""
    run = case.run()
    if run.status:
        one_error(run, "lora", "merge")
        return "refused"
    warnings = [line for line in run.err.splitlines() if line.startswith("warning:")]
    mentions("\n".join(warnings), "lora", "merge")
    return "warned"


@case("B09-shards-without-index")
def _(case):
    """Reads both shards, or names them and the missing index."""
    run = case.run()
    if run.status:
        one_error(run, r"model-0000\S*of-00002\.safetensors", r"model\.safetensors\.index\.json")
        need(not has(run.errors[0], r"no weights[;,.] "), "no weights")
        return "refused"
    whole = case.sibling("B03-feature-layer-list-of-one", "m")
    return same_answer(run, case.run(ASK.format(model=edited(case, whole, vision_feature_layer=-2), count=4)))


@case("B09-whole-file-beside-shards")
def _(case):
    """-v says that model.safetensors was taken though index and shards are there too."""
    need(case.run().out.splitlines()[-1:] == ["grep: 0"], "nothing about model.safetensors")
    run = case.run(ASK.format(model="m", count=4) + " -v")
    need(run.status == 0, f"status {run.status}")
    lines = [x for x in run.err.splitlines() if has(x, r"model\.safetensors(?!\.index)", r"index|shard|model-0000")]
    need(lines, f"no line names both: {run.err[:160]!r}")


@case("B10-awq")
def _(case):
    """The first line says that the weights are quantized by AWQ and what to take instead."""
    run = case.run()
    one_error(run, "AWQ", r"unquanti|not quanti|full.precision|original|before quanti|fp16|f16|bf16|float16")
    need(run.lines[0] == run.errors[0], f"first line {run.lines[0]!r}")


@case("B12-end-token-unused")
def _(case):
    """-v prints the end tokens and their source, with a note that </s> is none of them."""
    need(case.run().out.splitlines()[-1:] == ["grep: 0"], "nothing about end tokens")
    run = case.run('pdrop-run -m m --image a.png -p "What is it?" -n 8 -v')
    need(run.status == 0, f"status {run.status}")
    mentions(run.err, r"\b17\b", r"generation_config\.json", r"</s>")
    without = case.run('pdrop-run -m ' + edited(case, "m", file="generation_config.json", eos_token_id=2)
                       + ' --image a.png -p "What is it?" -n 8 -v')
    lines = [x for x in run.err.splitlines() if "</s>" in x and x in without.err.splitlines()]
    need(not lines, f"the same line where </s> ends answers: {lines[:1]}")


@case("B13-token-behind-vocabulary")
def _(case):
    """A record error of its own class that names the text <new> beside its id 640."""
    errors = [error_of(r) for r in records(case.run().out)]
    need(len(errors) == 1 and errors[0], f"records {errors}")
    need(errors[0][0] != "internal_error", "internal_error")
    mentions(errors[0][1], "<new>", r"\b640\b")


@case("B14-architectures-mistral")
def _(case):
    """mistral_instruct, since architectures say Mistral."""
    run = case.run()
    mentions(run.text, r"prompt \(mistral_instruct")
    found = prompt_of(run)[0]
    need(has(found, r"\[INST\] ?<image>\\nWhat is it\? ?\[/INST\]"), f"prompt {found!r}")
    need(not has(run.text, "nothing names its family"), "a warning that nothing names the family")


@case("B15-template-in-processor-config")
def _(case):
    """The prompt of the template in processor_config.json."""
    run = case.run()
    prompt_is(run, r"USER: <image>\nWhat is it? ASSISTANT:")
    mentions(run.text, r"processor_config\.json")


@case("B15-text-only-template")
def _(case):
    """Says that the template in tokenizer_config.json has no place for images and was not used."""
    lines = [x for x in case.run().out.splitlines() if has(x, r"tokenizer_config\.json", "image", "template")]
    need(len(lines) == 1, f"{case.run().out.strip()[:160]!r}")
    need(not has(lines[0], "has no chat template"), lines[0])


@case("B17-channels-last")
def _(case):
    """Says that the patch embedding is stored with channels last, or turns it."""
    run = case.run()
    if run.status:
        one_error(run, r"channels?[ -]last|MLX", r"patch_embedding")
        return "refused"
    whole = case.sibling("B03-feature-layer-list-of-one", "m")
    return same_answer(run, case.run(ASK.format(model=edited(case, whole, vision_feature_layer=-2), count=4)))


@case("B18-number-too-large")
def _(case):
    """Names text_config.max_position_embeddings and its range; the same for 1.5 in any whole-number key."""
    line = one_error(case.run(), r"text_config\.max_position_embeddings", r"100000000000000000000|1e\+?20|found")
    need(not has(line, "not valid JSON"), line)
    need(has(line, r"\d+ (to|and|through) \d+|\d+\.\.|at most|at least|up to|below|between|range|≤"), f"no range: {line}")
    for key in ("text_config__num_hidden_layers", "vision_config__patch_size", "image_token_index"):
        model = edited(case, "m", text_config__max_position_embeddings=2048, **{key: 1.5})
        line = one_error(case.run(ASK.format(model=model, count=4)), re.escape(key.replace("__", ".")))
        need(not has(line, "not valid JSON"), line)
        mentions(line, r"1\.5|whole number|integer")


# C: prompts


@case("C01-raw-with-beginning-token")
def _(case):
    """One beginning token, or a warning that there are two."""
    run = case.run()
    tokens = prompt_of(run)[1]
    need(run.status == 0 and tokens, f"status {run.status}: {run.text[:100]!r}")
    if tokens.count(1) == 1:
        need(tokens[:4] == [1, 262, 496, 591], f"tokens {tokens}")
        return "one"
    mentions("\n".join(x for x in run.err.splitlines() if x.startswith(("warning:", "note:"))), r"<s>|BOS|beginning")
    return "warned"


@case("C02-literal-backslash-n")
def _(case):
    """A hint of one line that \\n is taken as two characters."""
    run = case.run()
    need(run.status == 0, f"status {run.status}")
    need(len([x for x in run.err.splitlines() if r"\n" in x]) == 1, f"stderr {run.err[:160]!r}")
    plain = case.run("""pdrop-run -m m --image a.png -p 'Question. Answer shortly.' -n 1""")
    need(not plain.err.strip(), f"a hint without \\n: {plain.err[:100]!r}")


@case("C04-empty-image")
def _(case):
    """The first record: the path is empty. The others: errors or notes, as `images` and `image_file` are no keys."""
    run = case.run()
    found = records(run.out)
    need([r["question_id"] for r in found] == [1, 2, 3], f"records {run.out[:160]!r}")
    code, message = error_of(found[0]) or ("", "an answer")
    need(has(message, "empty") and not has(message, "is a folder"), message)
    for record, key in zip(found[1:], ("images", "image_file")):
        error = error_of(record)
        text = error[1] if error else "\n".join(x for x in run.err.splitlines() if not x.startswith("error:"))
        mentions(text, rf"\b{key}\b")


@case("C05-legacy-false")
def _(case):
    """No ▁ after a special token, as in transformers."""
    tokens = prompt_of(case.run())[1]
    need(tokens == [1, 263, 496, 591, 13, 456, 388, 387, 527, 273], f"tokens {tokens}")


@case("C07-system-text-in-if")
def _(case):
    """The prompt as the file's template renders it, or a refusal."""
    run = case.run()
    if run.status:
        one_error(run, "template", r"chat_template\.json", status=None)
        return "refused"
    prompt_is(run, r"Be nice. USER: <image>\nHi ASSISTANT:")


@case("C08-final-line-feed")
def _(case):
    """The same tokens by -f and by -p, or a README that says otherwise."""
    tokens = re.findall(r"^tokens: (.*)$", case.run().text, re.MULTILINE)
    need(len(tokens) == 2, f"tokens {tokens}")
    need(tokens[0] == tokens[1], f"tokens {tokens}")
    need(tokens[1].split()[-2:] == ["527", "273"], f"tokens {tokens[1]}")


# D: batches


@case("D01-bom-alone")
def _(case):
    """As an empty file: 0 of 0 records, status 0."""
    run = case.run()
    mentions(run.text, r"\b0 of 0 records")
    need(run.out.splitlines()[-1:] == ["0"] and not run.errors, f"{run.text.strip()[-160:]!r}")


@case("D01-utf16")
def _(case):
    """One error that says that the file is UTF-16."""
    run = case.run()
    need(len(run.errors) == 1, f"{len(run.errors)} lines of error: {run.text[:100]!r}")
    mentions(run.errors[0], r"UTF-?16")
    need(run.status != 0, "status 0")
    need(len(records(run.out)) <= 1 and "not JSON" not in run.text, f"{run.text[:160]!r}")


@case("D02-id-lost")
def _(case):
    """The error records keep their question_id."""
    found = [(r["question_id"], bool(error_of(r))) for r in records(case.run().out)]
    need(found == [(7, True), (8, True)], f"records {found}")


@case("D03-array")
def _(case):
    """One hint that the file is a JSON list and one record a line is expected."""
    run = case.run()
    need(len(run.errors) == 1, f"{len(run.errors)} lines of error: {run.text[:100]!r}")
    mentions(run.errors[0], r"\blist\b|\barray\b", r"\bline\b|\blines\b|JSONL|JSON Lines")
    need(run.status != 0, "status 0")
    need(all(error_of(r) for r in records(run.out)), "an answer")


@case("D03-unknown-members")
def _(case):
    """unsupported_option for each."""
    keys = {
        "a": "stop_token_ids", "b": "min_tokens", "c": "chat_template", "d": "add_generation_prompt",
        "e": "length_penalty", "f": "bad_words"}
    found = {r["custom_id"]: error_of(r) for r in records(case.run().out)}
    need(found.keys() == keys.keys(), f"records {list(found)}")
    for name, key in keys.items():
        need(found[name], f"{key}: answered")
        need(found[name][0] == "unsupported_option" and key in found[name][1], f"{key}: {found[name]}")


@case("D04-ids-alike-in-unicode")
def _(case):
    """Both ids once: composed and decomposed are different."""
    run = case.run()
    text = bytes.fromhex(re.sub(r"\s", "", run.out)).decode()
    found = sorted(re.findall(r'"question_id":"([^"]*)"', text))
    need(found == ["e\u0301", "\u00e9"], f"ids {[x.encode().hex() for x in found]}")


@case("D05-changed-questions")
def _(case):
    """A warning or an error that answer 1 is to another question."""
    run = case.run()
    lines = [x for x in run.lines if x.startswith(("warning:", "error:"))]
    mentions("\n".join(lines), r"\b1\b", r"question|prompt", r"other|another|differ|changed|not the same")
    again = "pdrop-run -m m --input q1.jsonl -n 1 --output o.jsonl --no-timings --progress none"
    same = case.run(f"rm -f o.jsonl; {again}; {again} --resume")
    need(not has(same.err, "^(warning|error):"), f"a warning for the same questions: {same.err[:160]}")
    need(same.status == 0, f"status {same.status} for the same questions")


@case("D06-name-not-utf8")
def _(case):
    """The image is read, or an error says that its name is not UTF-8."""
    folder = case.path("f")
    folder.mkdir(exist_ok=True)
    if not any(folder.iterdir()):
        case.run(r"""cp a.png "$(printf 'f/caf\351.png')" """)
    run = case.run()
    found = records(run.out)
    need(len(found) == 1, f"{len(found)} records")
    if error := error_of(found[0]):
        mentions(error[1], r"UTF-?8")
        return "an error"
    need(found[0]["metadata"]["visual_tokens"] not in ([0], []), "answered without the image")
    return "read"


@case("D06-pasted-path")
def _(case):
    """All three are read: quotes, backslashes and a second blank are what terminals paste."""
    run = case.run()
    need(not run.errors and "no such file" not in run.text, f"{run.text.strip()[:160]!r}")
    ask = "/clear\n".join(["/image my pic.png\nWhat?\n"] * 3)
    case.path("plain.txt").write_text(ask)
    plain = case.run("pdrop-run -m m -i -n 1 < plain.txt")
    blind = case.run(r"""printf "What?\n/clear\nWhat?\n/clear\nWhat?\n" | pdrop-run -m m -i -n 1""")
    need(answered(plain) != answered(blind), "the case does not tell an answer with the image from one without")
    return same_answer(run, plain)


# E: scoring


@case("E01-pope-reordered")
def _(case):
    """F1 100."""
    need(score(case.run(), "F1") == (100, 18), f"F1 {score(case.run(), 'F1')}")


@case("E02-option-none")
def _(case):
    """Every option that is there is offered: None and nan as texts, and those after an empty cell."""
    prompts = [json.loads(line.split(":", 1)[1]) for line in case.run().out.splitlines()]
    need(len(prompts) == 6, f"{len(prompts)} prompts")
    texts = [("None", "Two", "One", "Three"), ("One", "nan", "Two", "Three"), ("One", "", "Two", "Three")]
    for number, prompt in enumerate(prompts):
        for letter, text in zip("ABCD", texts[number % 3]):
            need(not text or f"\n{letter}. {text}\n" in prompt, f"no {letter}. {text} in {prompt!r}")
        need(texts[number % 3][1] or not re.search(r"^B\.", prompt, re.MULTILINE), f"an empty option in {prompt!r}")


@case("E03-percent-behind-blank")
def _(case):
    """"100 %" is the number 1."""
    run = case.run()
    need(score(run, "relaxed accuracy") == (100, 1), f"relaxed accuracy {score(run, 'relaxed accuracy')}")
    need(score(run, "human") == (100, 1), f"human {score(run, 'human')}")


@case("E06-scienceqa-missing")
def _(case):
    """IMG accuracy 80.00 of 10: a question without an answer counts as wrong."""
    run = case.run()
    need(score(run, "IMG accuracy") == (80, 10), f"IMG accuracy {score(run, 'IMG accuracy')}")
    need(score(run, "accuracy") == (80, 10), f"accuracy {score(run, 'accuracy')}")


@case("E07-textvqa-line-feed-in-token")
def _(case):
    """Scored, or refused with the line of the answer file."""
    run = case.run()
    if run.errors:
        mentions(run.errors[0], r"run\.jsonl(:1\b|.*\bline 1\b)|line 1\b.*run\.jsonl")
        need(run.status == 3, f"status {run.status}")
        return "refused"
    need(score(run, "accuracy") == (100, 1), f"accuracy {score(run, 'accuracy')}")


@case("E07-textvqa-numeric-id")
def _(case):
    """Names the line and says that question_id must be the image's id."""
    run = case.run()
    need(run.status == 3 and run.errors, f"status {run.status}: {run.text[:100]!r}")
    mentions(
        run.errors[0], r"run\.jsonl(:1\b|.*\bline 1\b)|line 1\b.*run\.jsonl", "question_id", "34602",
        r"image('s)?[ _]id|id of the image|image_id|img1")


@case("E08-ai2d-truth-as-number")
def _(case):
    """An error with the line, or 0 to 3 read as A to D; MMStar alike."""
    rows = case.path("data/ai2d/AI2D_TEST.tsv").read_text().splitlines()
    folder = case.path("data/mmstar")
    (folder / "answers").mkdir(parents=True)
    (folder / "MMStar.tsv").write_text("\n".join(row + ("\tc" if i else "\tcategory") for i, row in enumerate(rows)) + "\n")
    case.run("cp data/ai2d/answers/run.jsonl data/mmstar/answers/run.jsonl")
    for name in ("ai2d", "mmstar"):
        run = case.run(f"pdrop-eval score --data data --benchmark {name}")
        if run.errors:
            mentions(run.errors[0], r"\.tsv(:2\b|.*\b(line|row) [12]\b)|\b(line|row) [12]\b.*\.tsv", r"answer", r"\b0\b")
            need(run.status != 0, "status 0")
        else:
            need(table(run.out), f"{name}: {run.text[:160]!r}")
            found = float(next(v for k, v in table(run.out)[0].items() if k.startswith("score")).split()[0])
            need(found == 100, f"{name}: {found}")


@case("E08-word-as-letter")
def _(case):
    """0.00, or at least the note that MMBench has."""
    run = case.run()
    found = score(run, "accuracy")
    if found != (0, 3):
        mentions("\n".join(x for x in run.lines if x.startswith("note:")), "ai2d", "letter")
        return "a note"
    return "0.00"


@case("E10-vizwiz-refusals")
def _(case):
    """The share of answers "unanswerable", and the score by answerable and unanswerable questions."""
    run = case.run()
    lines = [x for x in run.lines if has(x, r"\b(un)?answerable\b")]
    share = [x for x in lines if has(x, r"answers?\W+unanswerable|unanswerable\W+answers?|share", r"\b100(\.0+)?\b|\b4 of 4\b")]
    need(share, f"no share of 100%: {run.text[:300]!r}")
    scores = [x for x in lines if x not in share]
    need(any(has(x, r"\banswerable\b") for x in scores) and any(has(x, r"\bunanswerable\b") for x in scores),
         f"no scores by kind of question: {lines}")


# F: the machine


def mounts(case):
    """Skips the case where the machine lets nobody mount a control group of its own."""
    run = case.run("unshare -m bash -c 'mount --bind cg /sys/fs/cgroup'")
    if run.status:
        raise Skipped(f"needs root and unshare: {run.err.strip()[:80]}")


@case("F01-cpu-max")
def _(case):
    """One thread, as cgroup v2 allows one processor."""
    mounts(case)
    run = case.run(re.sub(r" 2>&1 \| grep .*", "", case.command.strip()) + " 2>&1")
    need(run.status == 0, f"status {run.status}: {run.text[:120]!r}")
    found = re.findall(r"\b(\d+) threads?\b", run.text)
    need(found and set(found) == {"1"}, f"threads {found}")


@case("F02-memory-high")
def _(case):
    """About 0.5 GiB allowed."""
    mounts(case)
    line = case.run().out
    found = re.search(r"([\d.]+) (GiB|MiB)", line)
    need(found and has(line, "allowed|limit|available"), line.strip()[:120])
    allowed = float(found[1]) / (1 if found[2] == "GiB" else 1024)
    need(0.4 < allowed < 0.65, f"{allowed} GiB allowed")


@case("F03-address-space")
def _(case):
    """An answer, or one line of error and status 3."""
    run = case.run()
    found = re.findall(r"^status (\d+)$", run.out, re.MULTILINE)
    need(len(found) == 2 and set(found) <= {"0", "3"}, f"statuses {found}")
    need(len(run.errors) == found.count("3"), f"statuses {found}, lines of error: {run.errors}")
    need(not run.errors or all(has(x, "memory|address space") for x in run.errors), f"{run.errors}")
    need(found[1] == "3" or re.search(r"^\d+\.\d+\.\d+", run.out, re.MULTILINE), "no version")


@case("F03-address-space-threads")
def _(case):
    """Fewer threads with a note, or one line of error and status 3."""
    run = case.run()
    status = re.search(r"^status (\d+)$", run.out, re.MULTILINE)
    need(status and status[1] in ("0", "3"), f"{run.text.strip()[:160]!r}")
    if status[1] == "3":
        need(len(run.errors) == 1 and has(run.errors[0], "memory|address space|threads"), f"{run.text[:160]!r}")
        return "refused"
    if not any(has(x, r"\bthreads?\b") for x in run.lines if not x.startswith("status")):
        detailed = case.run(case.command.replace("-t 64", "-t 64 -v").replace("head -3", "head -20"))
        need(any(has(x, r"\b\d+ threads?\b", r"\b64\b") for x in detailed.lines), f"no note: {detailed.text[:160]!r}")
    return "fewer threads"


@case("F04-weights-cut-while-running")
def _(case):
    """One line of error that names the weight file, and an output that is whole and resumable."""
    run = case.run()
    status = re.search(r"^status (\d+)$", run.out, re.MULTILINE)
    need(status and 0 < int(status[1]) < 128, f"{run.text.strip()[:160]!r}")
    need(len(run.errors) == 1, f"{len(run.errors)} lines of error: {run.text[:160]!r}")
    mentions(run.errors[0], r"model\.safetensors")
    lines = re.search(r"^(\d+)$", run.out, re.MULTILINE)
    need(lines and int(lines[1]) <= 6, f"{lines and lines[1]} lines on stderr")
    # The same once more, with the output kept.
    case.run(case.command.replace("rm -rf n o.jsonl e.txt", "rm -rf n; cp -r m n"))
    text = case.path("o.jsonl").read_text()
    need(not text or text.endswith("\n"), "the output ends within a line")
    before = records(text)
    ask = 'pdrop-run -m n --input q.jsonl -n 30 --ignore-eos --no-timings --progress none --output o.jsonl --resume'
    count = len(before) + 3
    case.path("q.jsonl").write_text(
        "".join(json.dumps({"question_id": i + 1, "text": "What is it?"}) + "\n" for i in range(count)))
    resumed = case.run(ask)
    need(resumed.status in (0, 1), f"--resume: status {resumed.status}: {resumed.text[:160]!r}")
    if resumed.status == 1 or any(error_of(r) for r in before):
        resumed = case.run(ask + " --retry-failed")
        need(resumed.status == 0, f"--retry-failed: status {resumed.status}: {resumed.text[:160]!r}")
    found = sorted(r["question_id"] for r in records(case.path("o.jsonl").read_text()) if not error_of(r))
    need(found == list(range(1, count + 1)), f"{len(found)} of {count} answers after --resume")
    return f"resumed after {len(before)} answers"


# G, R, X: dropping, robustness and found on the way


@case("G04-target-flops-100")
def _(case):
    """100% is what it costs without dropping."""
    run = case.run()
    mentions(run.out, r"^policy.*\b576 -> 576 -> 576 -> 576\b")
    mentions(run.out.splitlines()[-1], "576/576/576/576", r"\b100(\.0+)?%")
    ask = 'pdrop-run --image a.png -p "What?" -n 1 --trace '
    case.run(f"{ask} all --target-flops 100%; {ask} none --policy none")
    logits = [tensor(case.path(f"{name}/trace.safetensors"), "last_logits")[1] for name in ("all", "none")]
    need(logits[0] == logits[1], "other logits than without dropping")


@case("R1-template-unclosed-comments")
def _(case):
    """Answered or refused in well under a second."""
    ask = 'pdrop-run -m m --image "$PDROP_MODELS/samples/bike.png" -p "What?" -n 1'
    case.run()
    results = []
    for size in (16_000, 40_000):
        case.path("m/chat_template.jinja").write_text("{#" * (size // 2))
        results.append(case.run(ask))
    case.path("m/chat_template.jinja").unlink()
    plain = case.run(ask)
    need(plain.status == 0, f"without the template: status {plain.status}: {plain.text[:120]!r}")
    for run in results:
        more = run.processor_seconds - plain.processor_seconds
        need(more < 0.5, f"{more:.1f} s of processor time more than without the template")
        if run.status:
            one_error(run, "template")
    return f"{max(r.processor_seconds for r in results):.2f} s of processor time"


@case("R2-jpeg-memory")
def _(case):
    """Refused before memory is taken."""
    run = case.run('pdrop-run --image progressive-cmyk-790.jpg -p "What?" -n 1')
    need(run.peak_bytes < 400 << 20, f"{run.peak_bytes >> 20} MiB at the peak")
    if run.status:
        one_error(run, r"progressive-cmyk-790\.jpg", r"memory|GiB|MiB|GB|MB")
    return f"{run.peak_bytes >> 20} MiB at the peak, status {run.status}"


@case("R3-tall-image")
def _(case):
    """Prepared in about the time of the wide image, or refused."""
    case.path("next").symlink_to(case.golden("tiny-llava-next-vicuna"))
    tall = case.run('pdrop-run -m next --image tall-178x1000000.png -p "What?" -n 1')
    if tall.status:
        one_error(tall, r"tall-178x1000000\.png")
        need(tall.processor_seconds < 2 and tall.peak_bytes < 600 << 20,
             f"refused after {tall.processor_seconds:.1f} s and with {tall.peak_bytes >> 20} MiB")
        return f"refused, {tall.processor_seconds:.1f} s, {tall.peak_bytes >> 20} MiB"
    case.path("wide.png").write_bytes(turned_png(case.path("tall-178x1000000.png").read_bytes()))
    wide = case.run('pdrop-run -m next --image wide.png -p "What?" -n 1')
    need(wide.status == 0, f"wide image: status {wide.status}: {wide.text[:120]!r}")
    need(tall.processor_seconds < 1.6 * wide.processor_seconds + 0.5,
         f"{tall.processor_seconds:.1f} s, wide {wide.processor_seconds:.1f} s of processor time")
    need(tall.peak_bytes < 1.3 * wide.peak_bytes + (50 << 20),
         f"{tall.peak_bytes >> 20} MiB at the peak, wide {wide.peak_bytes >> 20}")
    return f"{tall.processor_seconds:.1f} s and {tall.peak_bytes >> 20} MiB, " \
        f"wide {wide.processor_seconds:.1f} s and {wide.peak_bytes >> 20} MiB"


def turned_png(png):
    """A PNG file of swapped width and height, with the first palette entry or black everywhere."""
    chunks, offset = [], 8
    while offset < len(png):
        size, kind = struct.unpack(">I4s", png[offset : offset + 8])
        chunks.append((kind, png[offset + 8 : offset + 8 + size]))
        offset += size + 12
    header = chunks[0][1]
    width, height, depth, color = struct.unpack(">IIBB", header[:10])
    row = (height * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color] + 7) // 8
    kept = [chunk for chunk in chunks[1:] if chunk[0] not in (b"IDAT", b"IEND")]
    rows = (b"IDAT", zlib.compress(bytes(row + 1) * width, 9))
    return png[:8] + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [(b"IHDR", struct.pack(">II", height, width) + header[8:]), *kept, rows, (b"IEND", b"")])


@case("R4-report-to-device")
def _(case):
    """A pipe stays a pipe and gets the report; a link is followed."""
    run = case.run()
    listed = [x for x in run.out.splitlines() if re.match(r"^[-a-z]([-rwxst]{9})", x)]
    need(len(listed) == 2, f"{run.text.strip()[:200]!r}")
    need(listed[0][0] == "p", f"the pipe became: {listed[0]}")
    need(listed[1][0] == "l", f"the link became: {listed[1]}")
    got = case.path("got-fifo")
    for _ in range(20):
        if got.exists() and got.read_text().strip():
            break
        time.sleep(0.1)
    need(got.exists() and isinstance(json.loads(got.read_text() or "null"), dict), "the pipe got no report")
    need("{" in run.out.replace("\n".join(listed), ""), "the link's target got no report")
    case.run('rm -f f s; ln -s target s; pdrop-run --input q.jsonl --output o3.jsonl --report s')
    need(case.path("s").is_symlink() and isinstance(json.loads(case.path("target").read_text()), dict),
         "a link to a file was replaced, or not followed")


@case("X01-peak-memory")
def _(case):
    """About 30 MB, the program's own memory."""
    run = case.run(re.sub(r" 2>&1 \| grep .*", "", case.command.strip()))
    found = re.search(r"peak (?:RSS )?([\d.]+) ([kMG])i?B", run.text)
    need(found, "no peak printed")
    megabytes = float(found[1]) * {"k": 1e-3, "M": 1, "G": 1e3}[found[2]]
    need(megabytes < 150, f"{megabytes:.0f} MB")
    return f"{megabytes:.0f} MB"
