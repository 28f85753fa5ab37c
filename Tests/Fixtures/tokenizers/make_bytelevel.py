"""Trains small byte-level tokenizers in the published shapes and writes down what the tokenizers library makes of texts.

    pip install tokenizers==0.23.3
    python3 make_bytelevel.py            # llama3/, qwen2/ and gpt2/, each with tokenizer.json and cases.json
    python3 make_bytelevel.py 5000       # more random cases, to be compared once by hand

Everything is seeded. Ids are without the beginning token.
"""

import json
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"llama3": ENDINGS + r"\p{N}{1,3}" + REST, "qwen2": ENDINGS + r"\p{N}" + REST}
SPECIAL = {
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"],
    "gpt2": ["<|endoftext|>"],
}
CORPUS = [
    "The quick brown fox doesn't jump; it's what we'd call lazy, and they've said I'm sure you'll see they're 12345 things.",
    "What is shown in this image? There are 3 cats, 27 dogs and 1024 birds.\n\nAnswer the question using a single word.\n",
    "def main():\n    for i in range(100):\n        print(i, i ** 2)\n\treturn None\r\n",
    "Größe, façade, naïve, Ελληνικά, русский язык, עברית, العربية, 日本語の文章, 中文句子, 한국어, ไทย, हिन्दी 😀👩‍👩‍👧 ❤️",
    "  two   spaces    and\ttabs \n \n  lines  ", "1234567 0.5 3,000,000 ½ ² Ⅷ ٣٤٥",
] * 40
TEXTS = [
    "", " ", "  ", "   ", "\n", "\n\n", " \n", "\n ", " \n \n  x", "\r\n", "\r\n\r\n a", "\t", "a\t\tb", "x  ", "x \n", "x\n ",
    "I'm", "I'M", "he'S", "we'LL go", "'s", "''s", "'", "' s", "it's'll", "'re've'd'm't", "DON'T", "'\u017f", "a'\u017fb", "'\u017f's",
    "'ll", "'lL", "'l", "'r", "'v e", "\u2019s it\u2019s", "1", "12", "123", "1234", "12345678901", " 1", " 123 4567", "a1b22c333d4444",
    "\u0663\u0664\u0665\u0666", "\u2167\u00bd\u00b2", "1 2  3   4", "3.14159", "$1,000.00", "x=1;y=22;", "!!!", "!!!\n", "!!!\n\n\nabc",
    " !", "  !", " !!\r\n\r\n", "(a)", "((a))", "_a_", "__init__", "a_b", "\u00a0a", "\u00a0\u00a0a", "a\u00a0", "\u3000\u3000x", "\u2028a\u2029b",
    "\u0085\u0085z", "\u200bzero\u200bwidth", "\ufeffbom", "e\u0301 \u00e9 E\u0301", "A\u030a \u00c5 \u212b", "\u1e9b\u0323", "q\u0323\u0307 q\u0307\u0323",
    "\u1100\u1161\u11a8 \uac01", "\u0915\u094d\u0937\u093f", "\u0e44\u0e17\u0e22", "\u05e9\u05c1\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u202bRTL\u202c mixed \u05d0bc", "\u65e5\u672c\u8a9e\u3068\u4e2d\u6587", "\uff21\uff11\uff01\uff07s", "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467 family", "\u2764\ufe0f",
    "\U0001f1e9\U0001f1ea", "\U0001d54f\U0001d7d8", "\x00", "a\x00b", "\x01\x02\x1f\x7f", "\x1c\x1d\x1e\x1f", "\x0b\x0c x", "tab\there", "\U0010ffff\ue000",
    "<image>", "a <image> b", "<image>\nWhat?", "<image><image>", " <image> ", "<imag", "<|eot_id|>", "<|im_end|>", "x<|endoftext|>y",
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "tool e\u0301", "caf\u00e9 cafe\u0301", "<cafe\u0301>", "<caf\u00e9>",
]


def build(kind):
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    if kind == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(PATTERNS[kind]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=560, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL[kind]])
    tokenizer.add_tokens([AddedToken("<caf\u00e9>", normalized=True), AddedToken("tool ", normalized=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if kind == "llama3":
        bos = SPECIAL[kind][0]
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=bos + " $A", pair=bos + " $A " + bos + ":1 $B:1",
                                          special_tokens=[(bos, tokenizer.token_to_id(bos))])])
        # A piece that no merge makes, which only a tokenizer that takes whole words finds.
        data = json.loads(tokenizer.to_str())
        merges = data["model"]["merges"]
        data["model"]["merges"] = [m for m in merges if "".join(m) not in ("Ġquestion", "Ġthings")]
        tokenizer = Tokenizer.from_str(json.dumps(data))
    return tokenizer


def random_text(rng):
    pools = [
        " \n\r\t", "abcst", "'", "STREVMLD", "0123456789", ".,!?-_()", "\u00e9\u0301\u0308\u0323ae", "\u65e5\u672c\u8a9e", "\u05d0\u05d1\u0627\u0628", "\U0001f600\u200d\ufe0f\u2764",
        "\u00a0\u2003\u3000\u0085\u2028", "\u00bd\u0664\u2168\u3007", "\u017f\u212a\u00df\u0130", "\x00\x1c\x7f",
    ]
    text = ""
    for _ in range(rng.randrange(1, 25)):
        if rng.random() < 0.05:
            text += rng.choice(SPECIAL["llama3"] + SPECIAL["qwen2"] + ["tool ", "<cafe\u0301>"])
        elif rng.random() < 0.03:
            text += chr(rng.choice([rng.randrange(0x20, 0xd800), rng.randrange(0xe000, 0x11000), rng.randrange(0x1f000, 0x20000)]))
        else:
            text += rng.choice(rng.choice(pools)) * rng.choice([1, 1, 1, 2, 3])
    return text


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for kind in SPECIAL:
        tokenizer = build(kind)
        folder = os.path.join(HERE, kind)
        os.makedirs(folder, exist_ok=True)
        tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
        rng = random.Random(kind)
        encoded, decoded = [], []
        for text in TEXTS + [random_text(rng) for _ in range(count)]:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            encoded.append({"text": text, "ids": ids, "decode": tokenizer.decode(ids, skip_special_tokens=False),
                            "decode_skip_special": tokenizer.decode(ids)})
        for _ in range(count):
            ids = [rng.randrange(rng.choice([256, 575])) for _ in range(rng.randrange(1, 12))]
            decoded.append({"ids": ids, "decode": tokenizer.decode(ids, skip_special_tokens=False),
                            "decode_skip_special": tokenizer.decode(ids)})
        prompt_ids = tokenizer.encode("a b").ids
        with open(os.path.join(folder, "cases.json"), "w") as file:
            json.dump({"prompt_ids": prompt_ids, "encoded": encoded, "decoded": decoded}, file, separators=(",", ":"))
        print(kind, tokenizer.get_vocab_size(), len(encoded), len(decoded))


if __name__ == "__main__":
    main()
