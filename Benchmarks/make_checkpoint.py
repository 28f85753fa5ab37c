"""Writes a LLaVA-1.5 directory of any shape with random bf16 weights, for measurements without a real checkpoint.

    python3 Benchmarks/make_checkpoint.py DIR --layers 8            # the width of LLaVA-1.5-7B, with 8 of its 32 layers

The tokenizer and the chat template are from a test checkpoint; answers are random. Requires numpy.
"""
import argparse
import json
import os
import shutil
import struct

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
SIDE_FILES = os.path.join(HERE, "..", "Tests", "Goldens", "models", "tiny-llava-1.5")


def shapes(a):
    """The name and shape of every tensor, in the layout of llava-hf."""
    d, m, kv, v = a.hidden, a.intermediate, a.hidden * a.kv_heads // a.heads, a.vocabulary
    yield "language_model.model.embed_tokens.weight", (v, d)
    for i in range(a.layers):
        p = f"language_model.model.layers.{i}."
        yield p + "input_layernorm.weight", (d,)
        yield p + "post_attention_layernorm.weight", (d,)
        for n, rows, columns in (("self_attn.q_proj", d, d), ("self_attn.k_proj", kv, d), ("self_attn.v_proj", kv, d),
                                 ("self_attn.o_proj", d, d), ("mlp.gate_proj", m, d), ("mlp.up_proj", m, d),
                                 ("mlp.down_proj", d, m)):
            yield f"{p}{n}.weight", (rows, columns)
    yield "language_model.model.norm.weight", (d,)
    yield "language_model.lm_head.weight", (v, d)
    for n, rows, columns in (("linear_1", d, 1024), ("linear_2", d, d)):
        yield f"multi_modal_projector.{n}.weight", (rows, columns)
        yield f"multi_modal_projector.{n}.bias", (rows,)
    t = "vision_tower.vision_model."
    yield t + "embeddings.class_embedding", (1024,)
    yield t + "embeddings.patch_embedding.weight", (1024, 3, 14, 14)
    yield t + "embeddings.position_embedding.weight", (577, 1024)
    norms = [t + "pre_layrnorm", t + "post_layernorm"]
    for i in range(24):
        p = f"{t}encoder.layers.{i}."
        norms += [p + "layer_norm1", p + "layer_norm2"]
        for n, rows, columns in (("self_attn.q_proj", 1024, 1024), ("self_attn.k_proj", 1024, 1024),
                                 ("self_attn.v_proj", 1024, 1024), ("self_attn.out_proj", 1024, 1024),
                                 ("mlp.fc1", 4096, 1024), ("mlp.fc2", 1024, 4096)):
            yield f"{p}{n}.weight", (rows, columns)
            yield f"{p}{n}.bias", (rows,)
    for n in norms:
        yield n + ".weight", (1024,)
        yield n + ".bias", (1024,)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("--layers", type=int, default=32)
    p.add_argument("--hidden", type=int, default=4096)
    p.add_argument("--intermediate", type=int, default=11008)
    p.add_argument("--heads", type=int, default=32)
    p.add_argument("--kv-heads", type=int, default=32)
    p.add_argument("--vocabulary", type=int, default=32064)
    a = p.parse_args()
    os.makedirs(a.directory, exist_ok=True)
    for name in os.listdir(SIDE_FILES):
        if not name.endswith(".safetensors"):
            shutil.copy(os.path.join(SIDE_FILES, name), a.directory)
    with open(os.path.join(a.directory, "config.json")) as f:
        config = json.load(f)
    config["text_config"].update(hidden_size=a.hidden, intermediate_size=a.intermediate, num_hidden_layers=a.layers,
                                 num_attention_heads=a.heads, num_key_value_heads=a.kv_heads, vocab_size=a.vocabulary)
    config["vision_config"].update(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
                                   num_attention_heads=16)
    with open(os.path.join(a.directory, "config.json"), "w") as f:
        json.dump(config, f, indent=1)

    header, end = {}, 0
    for name, shape in shapes(a):
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(0)
    with open(os.path.join(a.directory, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes(a):
            if "norm" in name and name.endswith("weight"):
                values = np.ones(shape, np.float32)
            else:
                values = rng.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
            f.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    print(f"{a.directory}: {end / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
