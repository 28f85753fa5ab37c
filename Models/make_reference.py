"""Writes the reference library's results for a question about images, stage by stage, for `pdrop-run check`.

    python make_reference.py MODEL_DIR --image cat.jpg --prompt "What is on the mat?" [--out DIR]

Works on any LLaVA-1.5, LLaVA-NeXT, LLaVA-OneVision, SmolVLM or Idefics3 directory in the Hugging Face layout whose language
model is Llama, Mistral or Qwen2. Everything is computed in float32 on the CPU: a 7B model takes 28 GB of memory. Without --out the files go to
MODEL_DIR/reference, where `pdrop-run check -m MODEL_DIR` looks first; several runs add their cases there.

The files have the format of Tests/Goldens (see its README): cases, features and preprocess, with copies of the images.
A case made from a question also stores it as `question`, so that the chat template is checked too.

The script uses the modules of transformers' model. It implements attention, KV cache and dropping itself, since the
library does not drop. The run without dropping is compared with the library's forward pass and generation before it is
stored.

Needs torch, transformers 4.57, safetensors and Pillow, for LLaVA-OneVision and SmolVLM torchvision, and for SmolVLM
num2words.
"""
import argparse
import filecmp
import json
import os
import shutil
import sys

import torch
from PIL import Image
from safetensors.torch import save_file

# The largest allowed difference between the run without dropping and the library's.
TOLERANCE = 1e-3


# --- The decoder, layer by layer ------------------------------------------------------------------
class Decoder:
    """The language model of a transformers LLaVA, one sequence at a time, with visual tokens dropped between layers."""

    def __init__(self, model):
        self.lm, self.head = language_model(model), model.lm_head
        cfg = self.lm.config
        if cfg.model_type not in ("llama", "mistral", "qwen2"):
            sys.exit(f"the language model is a {cfg.model_type}; expected llama, mistral or qwen2")
        if getattr(cfg, "sliding_window", None) and getattr(cfg, "use_sliding_window", True):
            sys.exit("the language model attends through a sliding window, which this script does not")
        self.layers = self.lm.layers
        self.head_dim = self.layers[0].self_attn.head_dim
        self.group = cfg.num_attention_heads // cfg.num_key_value_heads

    def project(self, i, h, positions):
        """h [T,D] -> queries, keys and values [H,T,d] of layer i, with RoPE applied to queries and keys."""
        layer = self.layers[i]
        x = layer.input_layernorm(h)
        cos, sin = (t[0] for t in self.lm.rotary_emb(x[None], positions[None]))
        heads = lambda linear: linear(x).view(len(h), -1, self.head_dim).transpose(0, 1)
        a = layer.self_attn
        q, k, v = heads(a.q_proj), heads(a.k_proj), heads(a.v_proj)
        half = self.head_dim // 2
        rotate = lambda t: t * cos + torch.cat([-t[..., half:], t[..., :half]], -1) * sin
        return rotate(q), rotate(k).repeat_interleave(self.group, 0), v.repeat_interleave(self.group, 0)

    def finish(self, i, h, q, k, v):
        """The layer's output for the last rows of the sequence; h and q hold these rows, k and v all rows."""
        layer, (heads, rows, _), total = self.layers[i], q.shape, k.shape[1]
        out = torch.empty_like(q)
        for a in range(0, rows, 512):
            b = min(a + 512, rows)
            seen = total - rows + b
            s = q[:, a:b] @ k[:, :seen].transpose(1, 2) * self.head_dim ** -0.5
            row = torch.arange(total - rows + a, seen)[:, None]
            out[:, a:b] = s.masked_fill(torch.arange(seen) > row, -torch.inf).softmax(-1) @ v[:, :seen]
        h = h + layer.self_attn.o_proj(out.transpose(0, 1).reshape(rows, -1))
        return h + layer.mlp(layer.post_attention_layernorm(h))

    def attention_of_last(self, q, k):
        """Attention of the last row to every row, mean over heads, [T]."""
        return (q[:, -1:] @ k.transpose(1, 2) * self.head_dim ** -0.5).softmax(-1).mean(0)[0]

    def logits(self, h):
        return self.head(self.lm.norm(h))

    def prefill(self, embeds, spans, policy):
        """Runs a prompt. embeds [T,D]; spans: those of each image, start and length each. Returns stages and outputs."""
        h, positions = embeds, torch.arange(len(embeds))
        rows = [rows_of(image) for image in spans]
        blocks, counts = [(r, torch.arange(len(r))) for r in rows], list(map(len, rows))
        run = {"policy": policy, "hidden": [h[-1]], "caches": [], "stages": [], "next": len(embeds)}
        keep = {}  # layer -> number of tokens kept of each image from there on
        if policy["method"] == "pyramiddrop":
            keep = {l: [int(n * share) for n in counts] for l, share in zip(policy["layers"], policy["keep"])}
        if policy["method"] == "fastv":
            keep = {policy["k"]: [round(n * (1 - policy["r"])) for n in counts]}
        before = None
        for i in range(len(self.layers)):
            q, k, v = self.project(i, h, positions)
            if i in keep and spans:
                own = policy["method"] == "pyramiddrop"
                scores = self.attention_of_last(*((q, k) if own else before))
                rows, blocks = self.drop(run, i, scores, blocks, keep[i])
                h = h[rows]
                positions = torch.arange(len(rows)) if own else positions[rows]
                q, k, v = self.project(i, h, positions)
            h = self.finish(i, h, q, k, v)
            before = (q, k)
            run["caches"].append((k, v))
            run["hidden"].append(h[-1])
        run["lengths"] = [k.shape[1] for k, _ in run["caches"]]
        run["logits"] = self.logits(h[-1])
        return run

    @staticmethod
    def drop(run, layer, scores, blocks, counts):
        """Keeps each image's best tokens in order. Returns the kept rows, and rows and tokens of the images after that."""
        stage = {"layer": layer, "tokens_before": len(scores), "images": []}
        remains, left = torch.ones(len(scores), dtype=torch.bool), []
        for (rows, tokens), count in zip(blocks, counts):
            own = scores[rows]
            order = own.argsort(descending=True, stable=True)
            kept = order[:count].sort().values
            inside = 0 < count < len(tokens)
            margin = float(1 - own[order[count]] / own[order[count - 1]]) if inside else None
            start = int(rows[0]) if len(rows) else 0
            stage["images"].append({"start": start, "count": len(tokens), "kept": count, "margin": margin,
                                    "scores": own, "tokens": tokens[kept]})
            remains[rows] = False
            remains[rows[kept]] = True
            left.append((rows[kept], tokens[kept]))
        place = remains.cumsum(0) - 1
        stage["tokens_after"] = int(remains.sum())
        run["stages"].append(stage)
        return remains.nonzero()[:, 0], [(place[rows], tokens) for rows, tokens in left]

    def generate(self, run, count):
        """The most likely tokens, EOS included, and the smallest lead over the runner-up in standard deviations."""
        logits, tokens, leads = run["logits"], [], []
        while True:
            best = logits.topk(2)
            tokens.append(int(best.indices[0]))
            leads.append(float((best.values[0] - best.values[1]) / logits.std()))
            if len(tokens) == count:
                run["final_logits"] = logits
                return tokens, min(leads)
            h = self.lm.embed_tokens(torch.tensor(tokens[-1:]))
            for i, (k, v) in enumerate(run["caches"]):
                place = k.shape[1] if run["policy"]["method"] == "pyramiddrop" else run["next"]
                q, new_k, new_v = self.project(i, h, torch.tensor([place]))
                k, v = torch.cat([k, new_k], 1), torch.cat([v, new_v], 1)
                run["caches"][i] = (k, v)
                h = self.finish(i, h, q, k, v)
            run["next"] += 1
            logits = self.logits(h[-1])


# --- The model and its inputs ---------------------------------------------------------------------
CLASSES = {"llava": "Llava", "llava_next": "LlavaNext", "llava_onevision": "LlavaOnevision", "smolvlm": "SmolVLM",
           "idefics3": "Idefics3"}


def splits_images(model):
    return model.config.model_type in ("smolvlm", "idefics3")


def language_model(model):
    return model.model.text_model if splits_images(model) else model.model.language_model


def load(directory):
    """The model and its processor; stops if a weight is missing."""
    import transformers
    from transformers import AutoConfig, AutoImageProcessor, AutoProcessor
    config = AutoConfig.from_pretrained(directory)
    if config.model_type not in CLASSES:
        sys.exit(f"{directory}: a model of the type {config.model_type}; expected {', '.join(CLASSES)}")
    model, found = getattr(transformers, CLASSES[config.model_type] + "ForConditionalGeneration").from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    if found["missing_keys"] or found["mismatched_keys"]:
        sys.exit(f"{directory}: weights are missing: {sorted(found['missing_keys'])[:5]}")
    processor = AutoProcessor.from_pretrained(directory)
    processor.image_processor = AutoImageProcessor.from_pretrained(directory, use_fast=False)
    if splits_images(model) and config.dtype != torch.float32:
        place_patches(model.model.vision_model.embeddings)
    elif config.model_type.startswith("llava") and config.model_type != "llava_onevision":
        # Older directories leave these to the library, which then counts image tokens wrongly.
        processor.patch_size = processor.patch_size or config.vision_config.patch_size
        processor.vision_feature_select_strategy = (
            processor.vision_feature_select_strategy or config.vision_feature_select_strategy)
        if processor.num_additional_image_tokens is None:
            processor.num_additional_image_tokens = int(config.vision_config.model_type == "clip_vision_model")
    model.generation_config.eos_token_id = None
    return model.eval(), processor


def place_patches(embeddings):
    """Gives patches the positions of the training, which transformers 4.57 uses in 16 bits but not in float32."""
    def forward(pixel_values, patch_attention_mask):
        return embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2) + embeddings.position_embedding.weight
    embeddings.forward = forward


def rendered(processor, question, pictures):
    """The question in the model's chat template, with the images first unless <image> marks their positions."""
    parts = [] if "<image>" in question else [{"type": "image"}] * pictures
    message = {"role": "user", "content": parts + [{"type": "text", "text": question}]}
    if processor.chat_template is None:
        sys.exit("the directory has no chat template; give the formatted prompt and --raw")
    return processor.apply_chat_template([message], add_generation_prompt=True)


def image_features(model, inputs, views=None):
    """The embeddings of each image, [tokens, D] each; of SmolVLM for each view, [views, tokens, D]."""
    if splits_images(model):
        features = model.model.get_image_features(inputs["pixel_values"], inputs["pixel_attention_mask"])
        return list(features.split(views))
    sizes = [inputs["image_sizes"]] if "image_sizes" in inputs else []
    # LLaVA-OneVision uses one view for each of several images.
    counts = {"batch_num_images": inputs["batch_num_images"]} if "batch_num_images" in inputs else {}
    return list(model.model.get_image_features(inputs["pixel_values"], *sizes, **counts))


def spans_of(ids, image_token, images):
    """The spans of each image in the expanded ids, start and length each: one for each view in SmolVLM."""
    spans, row = [], 0
    for features in images:
        spans.append([])
        for view in features if features.dim() == 3 else [features]:
            row += ids[row:].tolist().index(image_token)
            spans[-1].append([row, len(view)])
            row += len(view)
    return spans


def rows_of(image):
    """The rows of an image's spans."""
    return torch.cat([torch.arange(start, start + count) for start, count in image])


# --- Files ----------------------------------------------------------------------------------------
def write(out, path, content):
    """Writes JSON or tensors to a file under `out`; refuses to change a file that earlier cases use."""
    path = os.path.join(out, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = path + ".new"
    if path.endswith(".json"):
        with open(new, "w") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
    else:
        save_file({name: t.detach().contiguous().clone() for name, t in content.items()}, new)
        os.chmod(new, 0o644)
    if not path.startswith(os.path.join(out, "cases")) and os.path.exists(path) and not filecmp.cmp(path, new, False):
        os.remove(new)
        sys.exit(f"{path}: exists and differs; remove it, or give another --out")
    os.replace(new, path)


def copy_picture(out, picture):
    """Copies an image to the path that the case names; returns that name."""
    name = "images/" + os.path.basename(picture)
    target = os.path.join(out, name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target):
        shutil.copyfile(picture, target)
    elif not filecmp.cmp(picture, target, False):
        sys.exit(f"{target}: a different image of this name exists; rename {picture}")
    return name


def write_picture(out, model_name, model, processor, picture, small, several):
    """Writes one image's pixels, hidden states of the vision encoder, and features."""
    is_onevision = model.config.model_type == "llava_onevision"
    is_nested = is_onevision or splits_images(model)
    name = os.path.basename(picture) + (".several" if is_onevision and several else "") + ".safetensors"
    images = processor.image_processor
    image = Image.open(picture)
    image = image.convert("RGB") if splits_images(model) else image
    inputs = images(images=[[image, image] if is_onevision and several else [image]] if is_nested else [image],
                    return_tensors="pt")
    values = inputs["pixel_values"][0]
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (images.image_mean, images.image_std))
    levels = ((values.double() * std + mean) / images.rescale_factor).round()
    if (((levels * images.rescale_factor - mean) / std).float() - values).abs().max() > 2e-6:
        sys.exit(f"{picture}: the processor does not rescale and normalise as LLaVA's does")
    tensors = {"pixels_u8": levels.to(torch.uint8)}
    if not small:
        tensors["pixel_values"] = values
    kind = {"llava": "llava15", "idefics3": "smolvlm"}.get(model.config.model_type, model.config.model_type)
    if splits_images(model) and not images.do_image_splitting:
        kind = "smolvlm_whole"
    write(out, os.path.join("preprocess", kind, name), tensors)

    tensors = {"features": image_features(model, inputs, [len(values)])[0].flatten(0, -2)}
    layer = getattr(model.config, "vision_feature_layer", None)
    if not small and splits_images(model):
        encoder = model.model.vision_model
        mask = torch.ones(1, *[s // encoder.patch_size for s in values.shape[-2:]], dtype=torch.bool)
        tensors |= {"vision_hidden_0": encoder.embeddings(values[:1], mask)[0],
                    "vision_hidden_select": encoder(values[:1], patch_attention_mask=mask).last_hidden_state[0]}
    if not small and isinstance(layer, int):
        first = values.view(-1, *values.shape[-3:])[:1]
        states = model.model.vision_tower(first, output_hidden_states=True).hidden_states
        tensors |= {"vision_hidden_0": states[0][0], "vision_hidden_select": states[layer][0]}
    write(out, os.path.join("features", model_name, name), tensors)


# --- A case ---------------------------------------------------------------------------------------
def policies(layer_count):
    """The runs of a case: without dropping, FastV, and PyramidDrop in equal quarters."""
    return {
        "vanilla": {"method": "none"},
        "fastv_k2_r50": {"method": "fastv", "k": 2, "r": 0.5},
        "pdrop_default": {"method": "pyramiddrop", "layers": [i * layer_count // 4 for i in (1, 2, 3)],
                          "keep": [0.5, 0.25, 0.125]},
    }


def compare_with_library(model, inputs, run, tokens):
    """Stops if the run without dropping differs from the library's; then stores the library's logits."""
    own = model(**inputs, output_hidden_states=True)
    hidden = torch.stack([state[0, -1] for state in own.hidden_states[:-1]])
    worst = max(float((hidden - torch.stack(run["hidden"][:-1])).abs().max()),
                float((own.logits[0, -1] - run["logits"]).abs().max()))
    length = inputs["input_ids"].shape[1]
    generated = model.generate(**inputs, do_sample=False, max_new_tokens=len(tokens))[0, length:].tolist()
    if not worst < TOLERANCE or generated != tokens:
        sys.exit(f"this script differs from transformers by {worst:.1e}, tokens {generated} and {tokens}")
    print(f"without dropping: within {worst:.1e} of transformers, the same tokens")
    run["logits"] = own.logits[0, -1]


def record(run, name, tokens, lead, text, tensors):
    """A run's entry in the case's JSON; its tensors join `tensors`."""
    for s, stage in enumerate(run["stages"]):
        for j, picture in enumerate(stage["images"]):
            tensors[f"{name}/stage{s}/image{j}/scores"] = picture.pop("scores")
            tensors[f"{name}/stage{s}/image{j}/kept"] = picture.pop("tokens").to(torch.int32)
    tensors[f"{name}/last_logits"] = run["logits"]
    tensors[f"{name}/final_logits"] = run["final_logits"]
    tensors[f"{name}/hidden_last"] = torch.stack(run["hidden"])
    margins = [p["margin"] for s in run["stages"] for p in s["images"] if p["margin"] is not None]
    print(f"{name}: {text!r}, smallest margin of a drop {min(margins, default=1):.1e}, of a token {lead:.1e}")
    if min(margins + [lead]) < 1.2e-3:
        print(f"warning: {name} has a margin so small that another machine may differ; try another prompt")
    return {"name": name, "policy": run["policy"], "tokens": tokens, "text": text, "min_gap_over_std": lead,
            "kv_len_prefill": run["lengths"], "kv_len_end": [k.shape[1] for k, _ in run["caches"]],
            "stages": run["stages"]}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model directory in the Hugging Face layout")
    parser.add_argument("--image", action="append", default=[], help="image; repeat it for several")
    parser.add_argument("--prompt", required=True, help="the question; <image> marks the position of an image")
    parser.add_argument("--raw", action="store_true", help="the prompt is formatted already")
    parser.add_argument("--out", help="folder for the reference (default: MODEL_DIR/reference)")
    parser.add_argument("--name", help="the case's name (default: that of the first image, or text_only)")
    parser.add_argument("-n", type=int, default=24, help="tokens to generate (default: 24)")
    parser.add_argument("--small", action="store_true", help="omit pixels and hidden states of the vision encoder")
    args = parser.parse_args()
    out = args.out or os.path.join(args.model, "reference")
    model_name = os.path.basename(os.path.abspath(args.model))
    case_name = args.name or (os.path.splitext(os.path.basename(args.image[0]))[0] if args.image else "text_only")

    model, processor = load(args.model)
    prompt = args.prompt if args.raw else rendered(processor, args.prompt, len(args.image))
    pictures = [Image.open(path) for path in args.image]
    views = None
    if splits_images(model):
        pictures = [picture.convert("RGB") for picture in pictures]
        views = [processor.image_processor([[p]], return_tensors="pt")["pixel_values"].shape[1] for p in pictures]
    # The images of one prompt are a list of their own, from which LLaVA-OneVision counts them.
    nested = [pictures] if model.config.model_type == "llava_onevision" or splits_images(model) else pictures
    inputs = (processor(images=nested, text=prompt, return_tensors="pt") if pictures
              else processor.tokenizer(prompt, return_tensors="pt"))
    features = image_features(model, inputs, views) if pictures else []
    ids = inputs["input_ids"][0]
    spans = spans_of(ids, model.config.image_token_id, features)
    embeds = language_model(model).embed_tokens(ids)
    for image, f in zip(spans, features):
        embeds[rows_of(image)] = f.flatten(0, -2)

    decoder, tensors, runs = Decoder(model), {}, []
    for name, policy in policies(len(decoder.layers)).items():
        run = decoder.prefill(embeds, spans, policy)
        tokens, lead = decoder.generate(run, args.n)
        if policy["method"] == "none":
            compare_with_library(model, inputs, run, tokens)
        text = processor.tokenizer.decode(tokens, skip_special_tokens=True)
        runs.append(record(run, name, tokens, lead, text, tensors))

    for picture in dict.fromkeys(args.image):
        write_picture(out, model_name, model, processor, picture, args.small, len(args.image) > 1)
    flat = [span for image in spans for span in image]
    # One image token for each span.
    inside = {row for start, count in flat for row in range(start + 1, start + count)}
    case = {"images": [copy_picture(out, path) for path in args.image], "prompt": prompt,
            "prompt_ids": [token for row, token in enumerate(ids.tolist()) if row not in inside],
            "sequence_length": len(ids), "image_spans": flat,
            "num_image_tokens": [sum(count for _, count in image) for image in spans], "new_tokens": args.n,
            "runs": runs}
    if not args.raw:
        case["question"] = args.prompt
    path = os.path.join("cases", model_name, case_name)
    write(out, path + ".json", case)
    write(out, path + ".safetensors", tensors)
    print(f"wrote {os.path.join(out, path)}")


if __name__ == "__main__":
    main()
