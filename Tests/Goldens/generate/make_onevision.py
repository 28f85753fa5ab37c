"""A tiny random LLaVA-OneVision checkpoint and its goldens: features, and greedy runs with and without token dropping.

The vision encoder is SigLIP with heads of 72, and views of 90 pixels, of which the last 6 columns and rows are not seen.
Weights are bf16; all arithmetic is float32. Run in this folder: python make_onevision.py
"""
import math
import os
import shutil

import torch
from PIL import Image
from safetensors.torch import save_file

import make_cases as C
import reference as R
from common import dump_json, load_json, save_tensors, sha256
from vision_weights import encoder_layers, patch_embedding

NAME = "tiny-llava-onevision"
VOCAB, IMAGE_ID, PAD_ID, VIDEO_ID = 1216, 1200, 1201, 1202
HID, FFN, LAYERS, HEADS, KV = 64, 144, 12, 4, 2
VH, VFFN, VLAYERS, VHEADS, IMG, PATCH = 144, 300, 4, 2, 90, 14
SIDE = IMG // PATCH
PINPOINTS = [[r * IMG, c * IMG] for r in range(1, 7) for c in range(1, 7)]
RUNS = {
    "vanilla": {"method": "none"},
    "fastv_k2_r50": {"method": "fastv", "k": 2, "r": 0.5},
    "pdrop_default": {"method": "pyramiddrop", "layers": [3, 6, 9], "keep": [0.5, 0.25, 0.125]},
}
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}"
    "{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
ONE = "<|im_start|>user\n<image>\n{q}<|im_end|>\n<|im_start|>assistant\n"
TWO = "<|im_start|>user\n<image>\n<image>\n{q}<|im_end|>\n<|im_start|>assistant\n"


def weights(seed):
    g = torch.Generator().manual_seed(seed)
    n = lambda *s, std=1.0: torch.randn(*s, generator=g) * std
    gain = lambda d: 1.0 + 0.15 * torch.randn(d, generator=g)
    t = {}
    v = "vision_tower.vision_model."
    t[v + "embeddings.patch_embedding.weight"] = patch_embedding(n, VH, PATCH)
    t[v + "embeddings.patch_embedding.bias"] = n(VH, std=0.3)
    t[v + "embeddings.position_embedding.weight"] = n(SIDE * SIDE, VH, std=0.8)
    t[v + "post_layernorm.weight"], t[v + "post_layernorm.bias"] = gain(VH), n(VH, std=0.1)
    t |= encoder_layers(n, gain, v + "encoder.layers.", VLAYERS, VH, VFFN)
    t["multi_modal_projector.linear_1.weight"] = n(HID, VH, std=0.75 / math.sqrt(VH))
    t["multi_modal_projector.linear_1.bias"] = n(HID, std=0.2)
    t["multi_modal_projector.linear_2.weight"] = n(HID, HID, std=2.7 / math.sqrt(HID))
    t["multi_modal_projector.linear_2.bias"] = n(HID, std=0.2)
    t["image_newline"] = n(HID, std=2.0)
    m, hd = "language_model.model.", HID // HEADS
    # The head is tied: rows small enough that a token is not its own successor.
    emb = n(VOCAB, HID, std=0.4)
    emb[:3] *= 0.05
    emb[1200:] *= 0.05
    t[m + "embed_tokens.weight"] = emb
    for i in range(LAYERS):
        p = f"{m}layers.{i}."
        t[p + "input_layernorm.weight"], t[p + "post_attention_layernorm.weight"] = gain(HID), gain(HID)
        for nm, rows, s in (("q", HID, 1.9), ("k", KV * hd, 1.9), ("v", KV * hd, 0.85)):
            t[p + f"self_attn.{nm}_proj.weight"] = n(rows, HID, std=s / math.sqrt(HID))
            t[p + f"self_attn.{nm}_proj.bias"] = n(rows, std=0.2)
        t[p + "self_attn.o_proj.weight"] = n(HID, HID, std=0.85 / math.sqrt(HID))
        t[p + "mlp.gate_proj.weight"] = n(FFN, HID, std=1.0 / math.sqrt(HID))
        t[p + "mlp.up_proj.weight"] = n(FFN, HID, std=1.0 / math.sqrt(HID))
        t[p + "mlp.down_proj.weight"] = n(HID, FFN, std=0.9 / math.sqrt(FFN))
    t[m + "norm.weight"] = gain(HID)
    return {k: x.to(torch.bfloat16).contiguous() for k, x in t.items()}


def text_config():
    return {"architectures": ["Qwen2ForCausalLM"], "hidden_size": HID, "intermediate_size": FFN, "model_type": "qwen2",
            "max_position_embeddings": 32768, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
            "num_key_value_heads": KV, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "tie_word_embeddings": True,
            "use_sliding_window": False, "vocab_size": VOCAB}


def vision_config(layers=VLAYERS):
    return {"hidden_size": VH, "image_size": IMG, "intermediate_size": VFFN, "model_type": "siglip_vision_model",
            "num_attention_heads": VHEADS, "num_hidden_layers": layers, "patch_size": PATCH, "vision_use_head": False}


def write_model(d, t):
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d)
    dump_json(d + "/config.json", {
        "architectures": ["LlavaOnevisionForConditionalGeneration"], "image_grid_pinpoints": PINPOINTS,
        "image_token_index": IMAGE_ID, "model_type": "llava_onevision", "projector_hidden_act": "gelu",
        "text_config": text_config(), "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "use_image_newline_parameter": True, "video_token_index": VIDEO_ID, "vision_aspect_ratio": "anyres_max_9",
        "vision_config": vision_config(), "vision_feature_layer": -1, "vision_feature_select_strategy": "full"}, 2)
    dump_json(d + "/generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": PAD_ID}, 2)
    dump_json(d + "/preprocessor_config.json", {
        "do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
        "image_grid_pinpoints": PINPOINTS, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "LlavaOnevisionImageProcessor", "processor_class": "LlavaOnevisionProcessor",
        "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"height": IMG, "width": IMG}}, 2)
    dump_json(d + "/processor_config.json", {
        "image_token": "<image>", "num_image_tokens": SIDE * SIDE, "processor_class": "LlavaOnevisionProcessor",
        "video_token": "<video>", "vision_aspect_ratio": "anyres_max_9", "vision_feature_select_strategy": "full"}, 2)
    dump_json(d + "/chat_template.json", {"chat_template": TEMPLATE}, 2)
    for f in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        shutil.copyfile("../tokenizer/" + f, d + "/" + f)
    added = {"content": "<video>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
             "special": True}
    j = load_json(d + "/tokenizer.json")
    j["added_tokens"].append({"id": VIDEO_ID, **added})
    dump_json(d + "/tokenizer.json", j)
    j = load_json(d + "/tokenizer_config.json")
    j["added_tokens_decoder"][str(VIDEO_ID)] = added
    dump_json(d + "/tokenizer_config.json", j)
    j = load_json(d + "/added_tokens.json")
    j["<video>"] = VIDEO_ID
    dump_json(d + "/added_tokens.json", j)
    save_file(t, d + "/model.safetensors", metadata={"format": "pt"})
    os.chmod(d + "/model.safetensors", 0o644)


class Reference(R.Reference):
    """The reference decoder with the biases of Qwen2."""

    def __init__(self, model, dtype=torch.float32, inv_freq_ulp=0):
        super().__init__(model, dtype, inv_freq_ulp)
        for l, m in zip(self.layers, self.lm.layers):
            for n in "qkv":
                l["b" + n] = getattr(m.self_attn, n + "_proj").bias.detach().to(dtype)

    def qkv(self, i, h, pos):
        l = self.layers[i]
        x = self.norm(h, l["n1"])
        cos, sin = R.rope_tables(self.inv_freq, pos, self.dtype)
        sp = lambda y, n: y.view(h.shape[0], n, self.hd).transpose(0, 1)
        q, k, v = (sp(x @ l[m].T + l["b" + m], n) for m, n in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads)))
        return R.rotate(q, cos, sin), R.rotate(k, cos, sin), v


def load(d, dtype=torch.float32):
    from transformers import LlavaOnevisionForConditionalGeneration
    m, info = LlavaOnevisionForConditionalGeneration.from_pretrained(
        d, dtype=dtype, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    assert all("post_layernorm" in k for k in info["unexpected_keys"]), info
    return m.eval()


class Processor:
    """Tokenizer and image processor, and the rule of the processor for the numbers of tokens."""

    def __init__(self, d):
        from transformers import AutoTokenizer, LlavaOnevisionImageProcessor
        self.tokenizer = AutoTokenizer.from_pretrained(d)
        self.image_processor = LlavaOnevisionImageProcessor.from_pretrained(d)
        self.num_image_tokens, self.vision_aspect_ratio = SIDE * SIDE, "anyres_max_9"

    def tokens(self, height, width):
        from transformers import LlavaOnevisionProcessor as P
        self._get_unpadded_features = lambda *a: P._get_unpadded_features(self, *a)
        return P._get_number_of_features(self, height, width, IMG, IMG)


class Session(C.Session):
    def __init__(self, d):
        self.dir, self.model, self.proc = d, load(d), Processor(d)
        self.ref, self._alts, self.cache = Reference(self.model), None, {}

    def alts(self):
        if self._alts is None:
            self._alts = {"float64": Reference(load(self.dir, torch.float64), torch.float64),
                          "ulp+1": Reference(self.model, inv_freq_ulp=1), "ulp-1": Reference(self.model, inv_freq_ulp=-1)}
            for a in self._alts.values():
                a.fast = True
        return self._alts

    def inputs(self, files, prompt):
        images = [Image.open(f).convert("RGB") for f in files]
        inp = self.proc.image_processor(images=[images], return_tensors="pt")
        key = tuple(files)
        if key not in self.cache:
            self.cache[key] = self.model.model.get_image_features(
                inp["pixel_values"], inp["image_sizes"], batch_num_images=inp["batch_num_images"])
        feats = self.cache[key]
        counts = [f.shape[0] for f in feats]
        expected = [self.proc.tokens(i.height, i.width) if len(images) == 1 else SIDE * SIDE + 1 for i in images]
        assert counts == expected, (counts, expected)
        ids, n = [], iter(counts)
        for t in self.proc.tokenizer(prompt)["input_ids"]:
            ids += [t] * (next(n) if t == IMAGE_ID else 1)
        inp["input_ids"] = torch.tensor([ids])
        inp["attention_mask"] = torch.ones_like(inp["input_ids"])
        return inp, feats


def name_of(f, several):
    return os.path.basename(f) + (".several" if several else "")


def store_images(out, ses, files, several, vision=()):
    """The exact bytes of the views, and the features, of each image: alone, or as one of several."""
    for f in files:
        image = Image.open(f).convert("RGB")
        inp = ses.proc.image_processor(images=[[image, image] if several else [image]], return_tensors="pt")
        pv = inp["pixel_values"][0]
        u = ((pv.double() * 0.5 + 0.5) * 255).round()
        assert float((((u / 255) - 0.5) / 0.5 - pv.double()).abs().max()) < 1e-6
        name = name_of(f, several)
        save_tensors(f"{out}/preprocess/llava_onevision/{name}.safetensors", {"pixels_u8": u.to(torch.uint8)}, {"image": name})
        ft = ses.model.model.get_image_features(
            inp["pixel_values"], inp["image_sizes"], batch_num_images=inp["batch_num_images"])[0]
        t = {"features": ft.float()}
        if os.path.basename(f) in vision:
            hs = ses.model.model.vision_tower(pv[:1], output_hidden_states=True).hidden_states
            t["vision_hidden_0"], t["vision_hidden_select"] = hs[0][0].float(), hs[-1][0].float()
        save_tensors(f"{out}/features/{NAME}/{name}.safetensors", t, {"image": name, "model": NAME})
        print(name, list(pv.shape), list(ft.shape), sha256(u.to(torch.uint8).numpy().tobytes())[:12], flush=True)


def store_video(out, ses, files):
    """The features of a video, by transformers' rule, of frames resized as Pillow does."""
    frames = [Image.open(f).convert("RGB").resize((IMG, IMG), Image.BICUBIC) for f in files]
    pv = torch.stack([ses.proc.image_processor(images=[i], return_tensors="pt")["pixel_values"][0][0] for i in frames])
    ft = ses.model.model.get_video_features(
        pv[None], vision_feature_layer=-1, vision_feature_select_strategy="full")[0]
    ft = torch.cat([ft, ses.model.model.image_newline[None]])
    ids = ses.proc.tokenizer("<|im_start|>user\n<video>\nWhat happens?<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    emb = ses.model.model.language_model.embed_tokens(torch.tensor(ids))
    a = ids.index(VIDEO_ID)
    emb = torch.cat([emb[:a], ft, emb[a + 1:]])
    st = ses.ref.prefill(emb, [(a, ft.shape[0])], RUNS["pdrop_default"])
    toks, _, _ = ses.ref.generate(st, 8)
    long = torch.tensor([ids[:a] + [VIDEO_ID] * ft.shape[0] + ids[a + 1:]])
    hf = ses.model(input_ids=long, attention_mask=torch.ones_like(long), pixel_values_videos=pv[None])
    st2 = ses.ref.prefill(emb, [(a, ft.shape[0])], RUNS["vanilla"])
    assert (hf.logits[0, -1] - st2["last_logits"]).abs().max() < 1e-4
    save_tensors(f"{out}/features/{NAME}/video.safetensors", {
        "features": ft.float(), "tokens": torch.tensor(toks, dtype=torch.int32), "last_logits": st["last_logits"]},
        {"frames": ",".join(os.path.basename(f) for f in files)})
    print("video", list(ft.shape), toks, flush=True)


def store_interleave(out, ses, file):
    """The features of the same encoder and projector in a model of class `llava`, as llava-interleave-qwen."""
    from transformers import SiglipImageProcessor
    ip = SiglipImageProcessor(size={"height": IMG, "width": IMG})
    pv = ip(images=[Image.open(file).convert("RGB")], return_tensors="pt")["pixel_values"]
    m = ses.model.model
    ft = m.multi_modal_projector(m.vision_tower(pv, output_hidden_states=True).hidden_states[-1])[0]
    save_tensors(f"{out}/features/{NAME}/interleave.safetensors", {"features": ft.float()}, {"image": os.path.basename(file)})


def store_counts(out):
    """Canvas and number of tokens of the published models, by transformers' processor."""
    import random
    from transformers import LlavaOnevisionProcessor as P
    from transformers.models.llava_onevision.image_processing_llava_onevision import select_best_resolution
    r, rows = random.Random(8), []

    class Rules:
        num_image_tokens, vision_aspect_ratio = 729, "anyres_max_9"

        class image_processor:
            image_grid_pinpoints = [[384 * r, 384 * c] for r in range(1, 7) for c in range(1, 7)]

        def _get_unpadded_features(self, *a):
            return P._get_unpadded_features(self, *a)

    rules = Rules()
    for i in range(300):
        h, w = r.randint(1, 4000), r.randint(1, 4000 if i % 3 else 300)
        rows.append({"hw": [h, w], "canvas_hw": list(select_best_resolution([h, w], rules.image_processor.image_grid_pinpoints)),
                     "tokens": P._get_number_of_features(rules, h, w, 384, 384)})
    dump_json(f"{out}/ops/onevision_counts.json", rows, None)


def store_pooling(out):
    g = torch.Generator().manual_seed(9)
    t = {}
    for i, (h, w, y, x) in enumerate([(27, 27, 14, 14), (31, 54, 23, 41), (121, 162, 70, 93), (6, 6, 3, 3), (1, 9, 1, 4), (30, 36, 16, 19)]):
        a = torch.randn(h, w, 3, generator=g)
        b = torch.nn.functional.interpolate(a.permute(2, 0, 1)[None], [y, x], mode="bilinear")[0].permute(1, 2, 0)
        t[f"{i}/in"], t[f"{i}/out"] = a, b
    save_tensors(f"{out}/ops/bilinear.safetensors", t)
    x = torch.cat([torch.linspace(-12, 12, 97), torch.tensor([0.0, -0.0, 1e-20, -1e-20, 1e4, -1e4, 1e30, -1e30])])
    save_tensors(f"{out}/ops/tanh_gelu.safetensors", {"x": x, "y": torch.nn.functional.gelu(x, approximate="tanh")})


@torch.no_grad()
def main():
    out = ".."
    d = f"{out}/models/{NAME}"
    write_model(d, weights(505))
    ses = Session(d)
    store_pooling(out)
    store_counts(out)
    img = lambda *n: [f"{out}/images/{x}" for x in n]
    store_images(out, ses, img("shapes_640x480.png", "wide_1000x200.png", "tiny_20x30.png"), False, ("tiny_20x30.png",))
    store_images(out, ses, img("shapes_640x480.png", "gray_300x400.png"), True)
    store_video(out, ses, img("shapes_640x480.png", "wide_1000x200.png", "gray_300x400.png"))
    store_interleave(out, ses, img("wide_1000x200.png")[0])
    for seed, (cid, files, fmt) in enumerate([
            ("shapes_640x480", img("shapes_640x480.png"), ONE), ("wide_1000x200", img("wide_1000x200.png"), ONE),
            ("tiny_20x30", img("tiny_20x30.png"), ONE),
            ("two_images", img("shapes_640x480.png", "gray_300x400.png"), TWO)]):
        meta, T = C.search(ses, files, lambda q: fmt.format(q=q), RUNS, 7000 + seed)
        C.save_case(out, NAME, cid, files, meta, T, "multi_image" if len(files) > 1 else "single_image")


if __name__ == "__main__":
    C.IMAGE_ID = IMAGE_ID
    main()
