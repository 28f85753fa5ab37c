"""A tiny random CLIP directory with both encoders, and the relevance that CDPruner computes with it for tiny-llava-1.5
and tiny-llava-next-vicuna.

All arithmetic is float32; orders of choice are computed in float64 too and are equal. Run in this folder, after
make_models.py: python make_clip.py
"""
import json
import os
import shutil
import string

import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast
from transformers import LlavaForConditionalGeneration, LlavaNextForConditionalGeneration
from transformers import CLIPImageProcessor, LlavaNextImageProcessor
from transformers.models.clip.tokenization_clip import bytes_to_unicode

from common import dump_json, load_json, save_tensors
from corpus import sentences

OUT, NAME = "../clip", "tiny-clip"
MERGES, TEXT, CONTEXT = 160, {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3,
                              "num_attention_heads": 3}, 77
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
LONG = " ".join(f"number {i} is {w}" for i, w in enumerate("red green blue white black small large".split() * 12))
STRINGS = [
    "", " ", "What is in the image?", "What's the colour of the MAN'S hat?", "don't  we'll\tthey've\n I'm he'd it's",
    "'s 't 're", "a 's b", "!'s", "12345 x2 3rd 1/2", "\u0130stanbul \u00c9COLE e\u0301cole \u00df \u01c5",
    "\u03a3\u03a3 \u039f\u0394\u039f\u03a3", "\u4e2d\u6587 caf\u00e9 \U0001f600\U0001f680", "<|endoftext|> and <|STARTOFTEXT|>",
    "a<|endoftext|>b", "x\u00a0y\u3000z\u2028w", "...!?--", "\u2160\u00b2\u00bd", "a\u0300\u0323 \u1ea1\u0300", "USER: <image>\nIs it red?",
    "snake_case @home #1", "\ufb01ne \u212b \u2126", "\u200bzero\u200dwidth", "A" * 100, "the " * 100, LONG]
QUESTIONS = ["What number is at the top right?", "Is there a red circle in the picture?", LONG[:330], LONG]
IMAGES = {"tiny-llava-1.5": ["shapes_640x480.png", "gray_300x400.png"], "tiny-llava-next-vicuna": ["wide_1000x200.png"]}
KEPT = {"tiny-llava-1.5": 32, "tiny-llava-next-vicuna": 12}


def write_tokenizer(d):
    """The vocabulary in CLIP's order: bytes, bytes at the end of a word, merges, special tokens."""
    t = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.train_from_iterator(sentences(), trainers.BpeTrainer(vocab_size=MERGES + 300, end_of_word_suffix="</w>", show_progress=False))
    merges = json.loads(t.to_str())["model"]["merges"][:MERGES]
    characters = list(bytes_to_unicode().values())
    tokens = characters + [c + "</w>" for c in characters] + ["".join(m) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with open(d + "/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in merges))
    dump_json(d + "/vocab.json", {t: i for i, t in enumerate(tokens)}, None)
    CLIPTokenizerFast(d + "/vocab.json", d + "/merges.txt", model_max_length=CONTEXT).save_pretrained(d)
    return len(tokens)


def write_model(d):
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(d)
    vocabulary = write_tokenizer(d)
    vision = load_json("../models/tiny-llava-1.5/config.json")["vision_config"]
    vision = {k: vision[k] for k in ("hidden_size", "image_size", "intermediate_size", "num_attention_heads",
                                     "num_hidden_layers", "patch_size")}
    torch.manual_seed(606)
    config = CLIPConfig(text_config=dict(TEXT, vocab_size=vocabulary, max_position_embeddings=CONTEXT, eos_token_id=2),
                        vision_config=vision, projection_dim=24)
    model = CLIPModel(config).eval()
    g = torch.Generator().manual_seed(607)
    for name, p in model.named_parameters():
        if name.endswith("norm.weight") or "layer_norm" in name and name.endswith("weight"):
            p.data = 1 + 0.15 * torch.randn(p.shape, generator=g)
        elif name.endswith("bias"):
            p.data = 0.1 * torch.randn(p.shape, generator=g)
        elif "embedding" in name:
            p.data = torch.randn(p.shape, generator=g) * (0.05 if "patch" in name else 0.8)
        elif p.dim() == 2:
            p.data = 1.2 * torch.randn(p.shape, generator=g) / p.shape[1] ** 0.5
    model.save_pretrained(d)
    os.chmod(d + "/model.safetensors", 0o644)
    # As in the published files, keys with the library's values are left out.
    c = load_json(d + "/config.json")
    keep = {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "eos_token_id",
            "max_position_embeddings", "image_size", "patch_size", "model_type"}
    for part in ("text_config", "vision_config"):
        c[part] = {k: v for k, v in c[part].items() if k in keep}
    dump_json(d + "/config.json", {k: c[k] for k in ("architectures", "model_type", "projection_dim", "text_config", "vision_config")}, 2)
    return CLIPModel.from_pretrained(d).eval()


def pieces(tokenizer, text):
    """The pieces of CDPruner: the ids with BOS and EOS, cut, the last one filled with zeros."""
    ids = tokenizer(text)["input_ids"]
    ids += [0] * (-len(ids) % CONTEXT)
    return [ids[i:i + CONTEXT] for i in range(0, len(ids), CONTEXT)]


def text_embeddings(clip, rows):
    return clip.text_projection(clip.text_model(input_ids=torch.tensor(rows)).pooler_output)


def views(name, file):
    image = Image.open(f"../images/{file}").convert("RGB")
    d = f"../models/{name}"
    if "next" in name:
        out = LlavaNextImageProcessor.from_pretrained(d, use_fast=False)(images=image, return_tensors="pt")
        return out["pixel_values"][0]
    return CLIPImageProcessor.from_pretrained(d)(images=image, return_tensors="pt")["pixel_values"]


def greedy(similarity, relevance, count):
    """The order of choice, and the smallest relative lead of a choice over the runner-up."""
    kernel = relevance[:, None] * similarity * relevance[None, :]
    left, columns, order, margin = kernel.diagonal().clone(), [], [], 1.0
    for _ in range(count):
        best, second = left.topk(2).values.tolist()
        margin = min(margin, (best - second) / best)
        i = int(left.argmax())
        column = kernel[i].clone()
        for c in columns:
            column -= c[i] * c
        column /= left[i].sqrt()
        columns.append(column)
        left = left - column ** 2
        left[torch.tensor(order + [i])] = -float("inf")
        order.append(i)
    return order, margin


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


@torch.no_grad()
def main():
    d = f"{OUT}/{NAME}"
    clip = write_model(d)
    tokenizer = CLIPTokenizerFast.from_pretrained(d)
    cases = {"tokenizer": [{"text": s, "ids": tokenizer(s)["input_ids"][1:-1]} for s in STRINGS], "questions": [], "selections": []}
    tensors = {}
    end = tokenizer.eos_token_id
    for q, text in enumerate(QUESTIONS):
        rows = pieces(tokenizer, text)
        cases["questions"].append({"text": text, "pieces": rows})
        for token in (2, end):
            clip.text_model.eos_token_id = token
            tensors[f"text/{q}/{'largest' if token == 2 else 'end'}"] = text_embeddings(clip, rows)
    clip.text_model.eos_token_id = 2
    for name, files in IMAGES.items():
        kind = LlavaNextForConditionalGeneration if "next" in name else LlavaForConditionalGeneration
        model = kind.from_pretrained(f"../models/{name}", torch_dtype=torch.float32).eval().model
        for file in files:
            hidden = model.vision_tower(views(name, file), output_hidden_states=True).hidden_states[-2][:, 1:]
            embeddings = clip.visual_projection(clip.vision_model.post_layernorm(hidden))
            projected = model.multi_modal_projector(hidden)
            tensors[f"image/{name}/{file}"] = embeddings
            for q, text in enumerate(QUESTIONS):
                m = -(unit(embeddings) @ unit(tensors[f"text/{q}/largest"]).T).mean(dim=-1)
                r = (m - m.min() + 1e-6) / (m.max() - m.min())
                sim = unit(projected) @ unit(projected).transpose(1, 2)
                count, orders, margin = KEPT[name], [], 1.0
                for view in range(len(sim)):
                    order, lead = greedy(sim[view], r[view], count)
                    double, _ = greedy(sim[view].double(), r[view].double(), count)
                    assert order == double, (name, file, q, view)
                    orders.append(order)
                    margin = min(margin, lead)
                print(name, file, q, f"margin {margin:.2e}", orders[0][:6], flush=True)
                if margin < 2e-4:
                    continue
                tensors[f"relevance/{name}/{file}/{q}"] = r
                cases["selections"].append({"model": name, "image": file, "question": q, "count": count, "orders": orders, "margin": margin})
    assert {c["model"] for c in cases["selections"]} == set(IMAGES)
    dump_json(f"{OUT}/cases.json", cases, None)
    save_tensors(f"{OUT}/cases.safetensors", tensors)


if __name__ == "__main__":
    main()
