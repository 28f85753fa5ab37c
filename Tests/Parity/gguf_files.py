"""Loads GGUF files in llama.cpp and in pdrop-run, and compares token ids, greedy tokens and log-probabilities of texts.

    python gguf_files.py MODEL.gguf... [--bin FOLDER] [--original MMPROJ --image FILE]

A file is loaded twice in llama.cpp: as it is, and as a copy with all tensors in F32. The copy shows whether both
programs read the same weights: it is compared with `--precision f32`. The file itself shows how each rounds
activations. The vision encoder is `mmproj-` plus the name of the model, beside it. With --original, its embeddings of
an image in llama.cpp's libmtmd are compared with those of another mmproj.

Needs llama-cpp-python 0.3.36, gguf, numpy, safetensors and Pillow. Prints a line per file; the exit status is 1 if
token ids or greedy tokens differ, or a log-probability by more than 1e-3.
"""
import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from PIL import Image
from safetensors.numpy import load_file

TOKENS = 24
TOLERANCE = 1e-3
TEXTS = [
    "USER: What is on the table? ASSISTANT:", "Hello there", "The quick brown fox jumps over the lazy dog.",
    "Describe the image in detail, please.", "Why is the sky blue?\nAnswer in one line:", "1234 + 5678 = ",
    "Grüße aus Köln, café naïve", "日本語のテキスト", "a  b   c    d", "def f(x):\n    return x * 2\n",
    "[INST] Where is the red ball? [/INST]", "Is it raining?", "emoji 😀 here", "What is the capital of France? It is",
    "X",
    "The woman walks along the river while the old man sits under a tree and waits for the morning bus.",
]


def write_f32(source, target):
    """Writes a copy of a GGUF file with all tensors in F32."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "tokenizer.huggingface.json"):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values.reshape([int(n) for n in reversed(tensor.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load(path):
    cache = dict(type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    return llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, **cache)


def generate(model, ids):
    """Greedy tokens of llama.cpp, and the log-probabilities of the first one."""
    model.reset()
    model.eval(ids)
    tokens, first = [], log_softmax(model.scores[model.n_tokens - 1])
    while len(tokens) < TOKENS:
        tokens.append(int(model.scores[model.n_tokens - 1].argmax()))
        model.eval(tokens[-1:])
    return tokens, first


def run(program, path, text, *options):
    """Prompt ids, greedy tokens and log-probabilities of the first one, of pdrop-run."""
    with tempfile.TemporaryDirectory() as folder:
        mmproj = path.with_name("mmproj-" + path.name)
        command = [program, "-m", path, "--mmproj", mmproj, "--raw", "-p", text, "-n", str(TOKENS), "--ignore-eos"]
        command += ["--policy", "none", "--trace", folder, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        trace = json.loads(pathlib.Path(folder, "trace.json").read_text())
        logits = load_file(f"{folder}/trace.safetensors")["last_logits"]
    return trace["prompt_ids"], trace["tokens"], log_softmax(logits)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max()
    return logits - np.log(np.exp(logits).sum())


def divergence(p, q):
    return float((np.exp(p) * (p - q)).sum())


def compare(program, path):
    """Prints a line; returns whether both programs read the same model."""
    with tempfile.TemporaryDirectory() as folder:
        write_f32(path, f"{folder}/f32.gguf")
        copy, stored = load(f"{folder}/f32.gguf"), load(path)
        ids, tokens, largest, rounding = 0, 0, 0.0, []
        for text in TEXTS:
            prompt, ours, exact = run(program, path, text, "--precision", "f32")
            theirs, first = generate(copy, prompt)
            begins = prompt[:1] == [copy.token_bos()]
            ids += copy.tokenize(text.encode(), add_bos=begins, special=True) == prompt
            tokens += theirs == ours
            largest = max(largest, float(np.abs(first - exact).max()))
            rounded = run(program, path, text, "--precision", "int4")[2], generate(stored, prompt)[1]
            rounding.append([divergence(exact, found) for found in rounded])
    here, there = np.mean(rounding, axis=0)
    print(f"{path.name}: ids {ids}, greedy tokens {tokens} of {len(TEXTS)} equal; log-probabilities {largest:.1e}; "
          f"divergence from f32: int4 {here:.4f}, llama.cpp {there:.4f}", flush=True)
    return ids == tokens == len(TEXTS) and largest <= TOLERANCE


def embeddings(model, mmproj, image):
    """Embeddings of an image in llama.cpp, `[V, D]`."""
    parameters = mtmd.mtmd_context_params_default()
    parameters.use_gpu = parameters.warmup = False
    context = mtmd.mtmd_init_from_file(str(mmproj).encode(), model.model, parameters)
    if not context:
        sys.exit(f"llama.cpp cannot load {mmproj}")
    pixels = Image.open(image).convert("RGB")
    data = (ctypes.c_ubyte * (3 * pixels.width * pixels.height)).from_buffer_copy(pixels.tobytes())
    bitmap, chunks = mtmd.mtmd_bitmap_init(*pixels.size, data), mtmd.mtmd_input_chunks_init()
    text = mtmd.mtmd_default_marker()
    prompt = mtmd.mtmd_input_text(text=text, text_len=len(text), add_special=False, parse_special=True)
    mtmd.mtmd_tokenize(context, chunks, ctypes.byref(prompt), (ctypes.c_void_p * 1)(bitmap), 1)
    parts = []
    for index in range(mtmd.mtmd_input_chunks_size(chunks)):
        chunk = mtmd.mtmd_input_chunks_get(chunks, index)
        if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
            mtmd.mtmd_encode_chunk(context, chunk)
            shape = mtmd.mtmd_input_chunk_get_n_tokens(chunk), model.n_embd()
            parts.append(np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(context), shape).copy())
    return np.concatenate(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--bin", default=".build/release", help="folder of pdrop-run")
    parser.add_argument("--original", help="mmproj to compare the vision encoder with")
    parser.add_argument("--image")
    options = parser.parse_args()
    equal = True
    for path in options.models:
        equal = compare(f"{options.bin}/pdrop-run", path) and equal
        if options.original:
            found, expected = (
                embeddings(load(path), mmproj, options.image)
                for mmproj in (path.with_name("mmproj-" + path.name), options.original)
            )
            print(f"embeddings {found.shape}: largest difference {np.abs(found - expected).max():.1e}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
