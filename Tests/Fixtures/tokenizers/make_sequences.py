"""Writes down how the tokenizers library splits texts by sequences of pre-tokenizer steps: sequences.json, and
sequences/NAME/, small tokenizers with such sequences and the ids of texts.

    pip install tokenizers
    python3 make_sequences.py
"""

import json
import os

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers as p, trainers

from make_bytelevel import CORPUS, PATTERNS, TEXTS

HERE = os.path.dirname(os.path.abspath(__file__))
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
MORE = ["a--b---c", "--", "-", " - a -", "x.y,z!?", "a_b 1_2", "№5 ①② x²", "$5 + 3 = 8~", "tab\t\tx  ", "▁a ▁ b", "don't stop 2024!"]


def steps():
    gpt2 = lambda space, regex: p.ByteLevel(add_prefix_space=space, use_regex=regex)
    yield from ([p.Split("-", b, invert=i)] for b in BEHAVIORS for i in (False, True))
    yield from ([p.Split("--", b)] for b in BEHAVIORS)
    yield from ([p.Split(Regex(PATTERNS["qwen2"]), b, invert=i)] for b in BEHAVIORS for i in (False, True))
    yield from ([p.Punctuation(b)] for b in BEHAVIORS)
    yield from ([p.Digits(d)] for d in (False, True))
    yield from ([s] for s in (p.Whitespace(), p.WhitespaceSplit(), p.CharDelimiterSplit("-")))
    yield from ([p.Metaspace(prepend_scheme=s, split=b)] for s in ("always", "first", "never") for b in (False, True))
    yield from ([gpt2(s, r)] for s in (False, True) for r in (False, True))
    yield [p.Digits(True), gpt2(False, True)]
    yield [p.Digits(False), gpt2(True, True)]
    yield [p.Split(Regex(PATTERNS["llama3"]), "isolated"), p.Digits(True), gpt2(False, False)]
    yield [p.Punctuation("contiguous"), gpt2(True, False)]
    yield [gpt2(False, True), p.Digits(True)]
    yield [p.WhitespaceSplit(), p.Metaspace(prepend_scheme="always")]
    yield [p.WhitespaceSplit(), p.Metaspace(prepend_scheme="first")]
    yield [p.Whitespace(), p.Punctuation("isolated"), p.Digits(True)]
    yield [p.Metaspace(prepend_scheme="first"), p.Digits(True), p.Punctuation("merged_with_previous")]
    yield [p.Split(" ", "merged_with_previous"), p.Digits(True)]


def write(name, value):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def tokenizer(name, steps, byte_level):
    t = Tokenizer(models.BPE() if byte_level else models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    t.pre_tokenizer = p.Sequence(steps)
    if byte_level:
        t.decoder = decoders.ByteLevel()
        t.train_from_iterator(CORPUS, trainers.BpeTrainer(
            vocab_size=420, special_tokens=["<|endoftext|>"], initial_alphabet=p.ByteLevel.alphabet(), show_progress=False))
    else:
        t.normalizer = normalizers.Replace(" ", "▁")
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        special = ["<unk>", "<s>"] + [f"<0x{b:02X}>" for b in range(256)]
        t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=480, special_tokens=special, show_progress=False))
    folder = os.path.join(HERE, "sequences", name)
    os.makedirs(folder, exist_ok=True)
    t.save(os.path.join(folder, "tokenizer.json"))
    value = json.load(open(os.path.join(folder, "tokenizer.json")))
    if not byte_level:
        value["added_tokens"] = value["added_tokens"][:2]
    write(f"sequences/{name}/tokenizer.json", value)
    t = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    write(f"sequences/{name}/cases.json", [{"text": x, "ids": t.encode(x, add_special_tokens=False).ids} for x in TEXTS + MORE])


if __name__ == "__main__":
    sequences = []
    for s in steps():
        sequence = p.Sequence(s)
        t = Tokenizer(models.BPE())
        t.pre_tokenizer = sequence
        texts = TEXTS + MORE if len(s) > 1 else MORE + TEXTS[::5]
        sequences.append({
            "pre_tokenizer": json.loads(t.to_str())["pre_tokenizer"],
            "cases": [{"text": x, "words": [w for w, _ in sequence.pre_tokenize_str(x)]} for x in texts]})
    write("sequences.json", sequences)
    tokenizer("digits-punctuation", [p.Digits(True), p.Punctuation("contiguous"), p.ByteLevel(add_prefix_space=True, use_regex=True)], True)
    tokenizer("spaces-before", [p.Split("▁", "merged_with_next"), p.Digits(True)], False)
