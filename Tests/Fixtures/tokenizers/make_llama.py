"""Trains small SentencePiece models and writes down what transformers' slow LlamaTokenizer makes of texts.

    pip install transformers==4.46.3 sentencepiece==0.2.* protobuf
    python3 make_llama.py            # llama/: three models, and cases.json with the configurations, texts and ids
    python3 make_llama.py 2000       # more random cases, to be compared once by hand

Everything is seeded. Ids are without the BOS token, except for "prompt". A case of the layout "original" has the ids of
LLaVA's tokenizer_image_token, with the image token -200. A case of the layout "json" has the ids of LlamaTokenizerFast and
the tokenizer.json that it writes.
"""

import io
import json
import os
import random
import shutil
import sys
import tempfile

import sentencepiece
from transformers import LlamaTokenizer, LlamaTokenizerFast

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "llama")
CORPUS = [
    "The quick brown fox doesn't jump; it's what we'd call lazy, and they've said there are 12345 things.",
    "USER: What is shown in this image? ASSISTANT: There are 3 cats, 27 dogs and 1024 birds.",
    "Answer the question using a single word or phrase. Human: Assistant: a user and an assistant",
    "def main(): for i in range(100): print(i, i ** 2) return None", "Größe, façade, naïve, Ελληνικά, 中文句子",
] * 20
MODELS = {
    "bytes": dict(vocab_size=480, byte_fallback=True, remove_extra_whitespaces=False),
    "symbols": dict(vocab_size=150, user_defined_symbols=["<sym>", "<sym>s", "ing"], control_symbols=["<ctl>"],
                    remove_extra_whitespaces=True),
    "noprefix": dict(vocab_size=480, byte_fallback=True, remove_extra_whitespaces=False, add_dummy_prefix=False),
}


def token(content, special=True, **flags):
    return dict(content=content, lstrip=False, rstrip=False, single_word=False, normalized=not special,
                special=special) | flags


# Tokens after the vocabulary of a model, in order.
PLAIN = [token("<image>"), token("<pad>")]
FLAGGED = [
    token("<image>"), token("<pad>"), token("<tool>", special=False), token("<left>", lstrip=True),
    token("<right>", special=False, rstrip=True), token("<both>", lstrip=True, rstrip=True),
    token("word", special=False, single_word=True), token("<im", special=False), token("  ", special=False),
    token("\n\n", special=False), token("é́", special=False),
]
CONFIGURATIONS = {
    "legacy": dict(model="bytes", tokens=PLAIN, config=dict(legacy=True, additional_special_tokens=["<image>"])),
    "new": dict(model="bytes", tokens=PLAIN, config=dict(legacy=False, additional_special_tokens=["<image>"])),
    "absent": dict(model="bytes", tokens=PLAIN, config=dict()),
    "unnamed": dict(model="bytes", tokens=PLAIN, config=dict(legacy=False)),
    "no-space": dict(model="bytes", tokens=PLAIN, config=dict(legacy=False, add_prefix_space=False)),
    "null": dict(model="bytes", tokens=PLAIN, config=dict(legacy=False, add_prefix_space=None)),
    "flags-legacy": dict(model="bytes", tokens=FLAGGED, config=dict(legacy=True, pad_token="<pad>")),
    "flags-new": dict(model="bytes", tokens=FLAGGED, config=dict(legacy=False, pad_token="<pad>")),
    "symbols-legacy": dict(model="symbols", tokens=FLAGGED, config=dict(legacy=True)),
    "symbols-new": dict(model="symbols", tokens=FLAGGED, config=dict(legacy=False)),
    "noprefix-legacy": dict(model="noprefix", tokens=PLAIN, config=dict(legacy=True)),
    "noprefix-new": dict(model="noprefix", tokens=PLAIN, config=dict(legacy=False)),
    # Without a list of added tokens, as written before transformers 4.34.
    "files": dict(model="bytes", tokens=None, config=dict(legacy=False, pad_token="<unk>", additional_special_tokens=["<x>"]),
                  added={"<image>": 480, "tool": 481}, map=dict(pad_token="<pad>", additional_special_tokens=[
                      "<image>", token("<l>", lstrip=True)], eos_token=token("</s>", rstrip=True))),
    "json-legacy": dict(model="bytes", tokens=FLAGGED, config=dict(legacy=True, pad_token="<pad>"), json=True),
    "json-new": dict(model="bytes", tokens=FLAGGED, config=dict(legacy=False, pad_token="<pad>"), json=True),
    "original-legacy": dict(model="bytes", tokens=[], original=True, config=dict(legacy=True)),
    "original-new": dict(model="bytes", tokens=[], original=True, config=dict(legacy=False)),
}
TEXTS = [
    "", " ", "  ", "\n", "a", " a", "  a", "a ", "a  b", "▁", "▁a", " ▁a", "a▁b", "▁▁a ▁", "<s>", "</s>", "<s>a", "<s> a", " <s>",
    "  <s>a", "a<s>", "a <s> b", "a</s>b</s>", "<s></s>", "<s> </s>", "<unk>", "a<unk>b", " <unk> b", "<image>", "<image>a",
    " <image>", "<image> a", "<image>\nWhat is it?", "USER: <image>\nWhat is it? ASSISTANT:", "<image><image>x",
    "USER: <image>\nWhat? ASSISTANT: A cat.</s>USER: And now? ASSISTANT:", "<image>\n<image>", "a\n<image>\n", "<s>\n", "\n<s>",
    "<pad>", "x<pad> y", "<tool>a", "a <left> b", "a \n<left>b", "a<right> \t b", "a <both> b", "<left><right> <both>", "word",
    "a word b", "aword", "worda", "word word", "word<s>", "<s>word", "<s>word</s>", "word <s>", "words word.word", "<image>word",
    "<imag", "<im<image>", "x  y", "x   y", "x    <s>", "a\n\nb", "a\n\n\nb", "\n\n<s>", "<both>\n\n", "é́", "e<left>é́", "\u3000<left>\u3000a",
    "a\x1c\x85<left>", "a\u200b<left>", "<sym>", "<sym>s", "a<sym>b", "<sym> a", " <sym>", "<sym><s>", "sing a ring", "<ctl>a", "<0x41>", "A<0x0A>",
    "日本語 中文句", "😀 ok", "\u200d\ufe0f", "naïve façade", "Größe", "x=1;y=22", "\t\tcode", "a\r\nb", "\x00", "they've it's",
]


def random_text(rng):
    pools = ["a b c", "the user is", "USER: ", " ASSISTANT: ", "word", "ing", "\n", "  ", " ", "▁", "é", "é́", "中文", "😀", "\t", "?!.,",
             "Question", "12345", "\u00a0", "x\x1f", "What is shown", "<", ">", "<im", "image"]
    tokens = ["<image>", "</s>", "<s>", "<unk>", "<pad>", "<tool>", "<left>", "<right>", "<both>", "word", "<sym>", "<sym>s", "<ctl>",
              "  ", "\n\n", "tool", "<l>", "<x>"]
    return "".join(rng.choice(pools if rng.random() < 0.6 else tokens) for _ in range(rng.randrange(1, 14)))


def train(name, folder):
    path = os.path.join(folder, name + ".model")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, model_type="bpe", character_coverage=1.0, num_threads=1,
        normalization_rule_name="identity", minloglevel=2, **MODELS[name])
    with open(path, "wb") as file:
        file.write(model.getvalue())
    return path


def tokenizer(name, case, models):
    """The slow tokenizer of a directory with tokenizer.model and the configuration files, and those files."""
    folder = tempfile.mkdtemp()
    shutil.copy(models[case["model"]], os.path.join(folder, "tokenizer.model"))
    size = MODELS[case["model"]]["vocab_size"]
    config = dict(tokenizer_class="LlamaTokenizer", **case["config"])
    if case["tokens"] is not None:
        named = [token(text) for text in ("<unk>", "<s>", "</s>")]
        config["added_tokens_decoder"] = {
            str(i): t for i, t in list(enumerate(named)) + list(enumerate(case["tokens"], size))}
    files = {"tokenizer_config.json": config}
    if "added" in case:
        files |= {"added_tokens.json": case["added"], "special_tokens_map.json": case["map"]}
    for file, content in files.items():
        with open(os.path.join(folder, file), "w") as handle:
            json.dump(content, handle)
    loaded = LlamaTokenizer.from_pretrained(folder)
    if case.get("json"):
        fast = LlamaTokenizerFast.from_pretrained(folder)
        fast.save_pretrained(folder)
        loaded = LlamaTokenizerFast.from_pretrained(folder)
        with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as handle:
            files["tokenizer.json"] = json.load(handle)
    shutil.rmtree(folder)
    return loaded, files


def original(slow, text):
    """LLaVA's tokenizer_image_token, without the BOS token."""
    chunks = [slow(chunk).input_ids[1:] for chunk in text.split("<image>")]
    return sum(([-200] + chunk for chunk in chunks[1:]), chunks[0])


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    os.makedirs(HERE, exist_ok=True)
    models = {name: train(name, HERE) for name in MODELS}
    rng = random.Random(16)
    texts = TEXTS + [random_text(rng) for _ in range(count)]
    cases = []
    for name, case in CONFIGURATIONS.items():
        slow, files = tokenizer(name, case, models)
        is_original = case.get("original", False)
        ids = [original(slow, text) if is_original else slow(text, add_special_tokens=False).input_ids for text in texts]
        cases.append(dict(name=name, model=case["model"], layout="original" if is_original else "json" if case.get("json") else "model", files={
            file: json.dumps(content, ensure_ascii=False, separators=(",", ":")) for file, content in files.items()}, prompt=slow("a b").input_ids, ids=ids))
        print(name, len(ids), len(slow))
    with open(os.path.join(HERE, "cases.json"), "w", encoding="utf-8") as file:
        json.dump(dict(texts=texts, cases=cases), file, ensure_ascii=False, separators=(",", ":"))


main()
