"""Copy the metadata of GGUF goldens, with their token ids and prompts: make_gguf.py GOLDENS

The tensors are left out. GOLDENS is a folder of GGUF goldens, whose own scripts made the files and the ids.
"""

import json
import os
import struct
import sys

FILES = {
    "vicuna": ("vicuna-64", "ggml-model-f16"),
    "vicuna-2023": ("vicuna-64", "ggml-model-q4_0-2023"),
    "mistral": ("mistral-256", "ggml-model-q2_k"),
    "qwen2": ("qwen2-64", "ggml-model-q4_k_m"),
}


def metadata(path):
    """The bytes of the container up to the list of tensors, with a tensor count of 0."""
    with open(path, "rb") as file:
        data = file.read()
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    at = 24

    def skip(kind):
        nonlocal at
        if kind == 8:
            at += 8 + struct.unpack_from("<Q", data, at)[0]
        elif kind == 9:
            element, count = struct.unpack_from("<IQ", data, at)
            at += 12
            for _ in range(count):
                skip(element)
        else:
            at += sizes[kind]

    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        skip(8)
        at += 4
        skip(struct.unpack_from("<I", data, at - 4)[0])
    return data[:8] + struct.pack("<Q", 0) + data[16:at]


def main():
    goldens = sys.argv[1]
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gguf")
    with open(os.path.join(goldens, "tokenizer_cases.json")) as file:
        tables = json.load(file)
    cases = {}
    for name, (model, stem) in FILES.items():
        with open(os.path.join(folder, name + ".gguf"), "wb") as file:
            file.write(metadata(os.path.join(goldens, "models", model, stem + ".gguf")))
        table = tables[f"models/{model}/{stem}.gguf"]
        prompts, answers = [], []
        for case in sorted(os.listdir(os.path.join(goldens, "cases", model))):
            if case.endswith(".json"):
                with open(os.path.join(goldens, "cases", model, case)) as file:
                    golden = json.load(file)
                prompts.append({"text": golden["prompt"], "ids": golden["prompt_ids"]})
                answers += [{"text": run["text"], "ids": run["tokens"]} for run in golden["runs"]]
        cases[name] = table | {"prompts": prompts, "answers": answers}
    with open(os.path.join(folder, "cases.json"), "w") as file:
        json.dump(cases, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
