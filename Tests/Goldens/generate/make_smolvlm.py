"""A tiny random SmolVLM checkpoint and its goldens: views, features, prompts, and greedy runs with and without dropping.

The vision encoder has views of 50 pixels, of which the last 2 columns and rows are not seen; 6 x 6 patches become 9 visual
tokens. The tokenizer is a small BPE with the steps and added tokens of the published one. Weights are float32, as
transformers 4.57 computes other positions of patches in float32 than in bf16. Run in this folder: python make_smolvlm.py
"""
import math
import os
import random
import shutil

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import corpus
import make_cases as C
import reference as R
from common import dump_json, load_json, save_tensors, sha256
from vision_weights import encoder_layers, patch_embedding

NAME = "tiny-smolvlm"
WHOLE = "tiny-smolvlm-whole"
BASE, VOCAB = 600, 704
HID, FFN, LAYERS, HEADS, KV = 64, 128, 8, 4, 2
VH, VFFN, VLAYERS, VHEADS, IMG, PATCH, SCALE = 48, 80, 3, 4, 50, 8, 2
SIDE = IMG // PATCH
PER_VIEW = (SIDE // SCALE) ** 2
EDGE = 4 * IMG
RUNS = {
    "vanilla": {"method": "none"},
    "fastv_k2_r50": {"method": "fastv", "k": 2, "r": 0.5},
    "pdrop_default": {"method": "pyramiddrop", "layers": [2, 4, 6], "keep": [0.5, 0.25, 0.125]},
}
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == 'image' %}"
    "{{':'}}{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")
ONE = "<|im_start|>User:<image>{q}<end_of_utterance>\nAssistant:"
TWO = "<|im_start|>User:<image><image>{q}<end_of_utterance>\nAssistant:"
TEXT = "<|im_start|>User: {q}<end_of_utterance>\nAssistant:"
BASIC = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ROWS = [f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)]
MARKS = ["<global-img>"] + ROWS + ["<fake_token_around_image>", "<image>", "<end_of_utterance>"]


def tokenizer():
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)])
    tok.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    trainer = trainers.BpeTrainer(vocab_size=BASE, special_tokens=BASIC, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator([s + "\n" for s in corpus.sentences()] + ["\n\n"] * 500, trainer)
    tok.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in MARKS])
    return tok


def weights(seed, image_id):
    g = torch.Generator().manual_seed(seed)
    n = lambda *s, std=1.0: torch.randn(*s, generator=g) * std
    gain = lambda d: 1.0 + 0.15 * torch.randn(d, generator=g)
    t = {}
    v = "model.vision_model."
    t[v + "embeddings.patch_embedding.weight"] = patch_embedding(n, VH, PATCH)
    t[v + "embeddings.patch_embedding.bias"] = n(VH, std=0.3)
    t[v + "embeddings.position_embedding.weight"] = n(SIDE * SIDE, VH, std=0.8)
    t[v + "post_layernorm.weight"], t[v + "post_layernorm.bias"] = gain(VH), n(VH, std=0.1)
    t |= encoder_layers(n, gain, v + "encoder.layers.", VLAYERS, VH, VFFN)
    wide = VH * SCALE * SCALE
    t["model.connector.modality_projection.proj.weight"] = n(HID, wide, std=2.4 / math.sqrt(wide))
    m, hd = "model.text_model.", HID // HEADS
    t[m + "embed_tokens.weight"] = n(VOCAB, HID, std=2.0)
    for i in range(LAYERS):
        p = f"{m}layers.{i}."
        t[p + "input_layernorm.weight"], t[p + "post_attention_layernorm.weight"] = gain(HID), gain(HID)
        for nm, rows, s in (("q", HID, 1.9), ("k", KV * hd, 1.9), ("v", KV * hd, 0.85)):
            t[p + f"self_attn.{nm}_proj.weight"] = n(rows, HID, std=s / math.sqrt(HID))
        t[p + "self_attn.o_proj.weight"] = n(HID, HID, std=0.85 / math.sqrt(HID))
        t[p + "mlp.gate_proj.weight"] = n(FFN, HID, std=1.0 / math.sqrt(HID))
        t[p + "mlp.up_proj.weight"] = n(FFN, HID, std=1.0 / math.sqrt(HID))
        t[p + "mlp.down_proj.weight"] = n(HID, FFN, std=0.9 / math.sqrt(FFN))
    t[m + "norm.weight"] = gain(HID)
    head = n(VOCAB, HID, std=3.0 / math.sqrt(HID))
    head[:3] *= 0.05              # special tokens, <image> and the unused tail never win
    head[3:259] *= 0.45
    head[BASE:] *= 0.05
    t["lm_head.weight"] = head
    return {k: x.contiguous() for k, x in t.items()}


def write_whole(d, base):
    """The same model without tiles: links to its files, but for the image processor's."""
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d)
    for f in sorted(os.listdir(base)):
        if f == "preprocessor_config.json":
            dump_json(f"{d}/{f}", {**load_json(f"{base}/{f}"), "do_image_splitting": False}, 2)
        else:
            os.symlink(f"../{os.path.basename(base)}/{f}", f"{d}/{f}")


def write_model(d, tok, t):
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d)
    ids = tok.token_to_id
    dump_json(d + "/config.json", {
        "architectures": ["SmolVLMForConditionalGeneration"], "image_token_id": ids("<image>"), "model_type": "smolvlm",
        "pad_token_id": ids("<|im_end|>"), "scale_factor": SCALE,
        "text_config": {
            "architectures": ["VLlama3ForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_size": HID,
            "intermediate_size": FFN, "max_position_embeddings": 8192, "model_type": "llama", "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS, "num_key_value_heads": KV, "pad_token_id": 2, "qk_layer_norms": False,
            "rms_norm_eps": 1e-05, "rope_theta": 100000, "tie_word_embeddings": False, "vocab_size": VOCAB},
        "tie_word_embeddings": False, "torch_dtype": "float32",
        "vision_config": {
            "hidden_size": VH, "image_size": IMG, "intermediate_size": VFFN, "max_image_size": {"longest_edge": IMG},
            "model_type": "smolvlm_vision", "num_attention_heads": VHEADS, "num_hidden_layers": VLAYERS,
            "patch_size": PATCH, "size": {"longest_edge": EDGE}}, "vocab_size": VOCAB}, 2)
    dump_json(d + "/generation_config.json", {
        "bos_token_id": 1, "eos_token_id": ids("<end_of_utterance>"), "pad_token_id": 2}, 2)
    dump_json(d + "/preprocessor_config.json", {
        "do_convert_rgb": True, "do_image_splitting": True, "do_normalize": True, "do_pad": True, "do_rescale": True,
        "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "SmolVLMImageProcessor",
        "image_std": [0.5, 0.5, 0.5], "max_image_size": {"longest_edge": IMG}, "processor_class": "SmolVLMProcessor",
        "resample": 1, "rescale_factor": 0.00392156862745098, "size": {"longest_edge": EDGE}}, 2)
    dump_json(d + "/processor_config.json", {"image_seq_len": PER_VIEW, "processor_class": "SmolVLMProcessor"}, 2)
    dump_json(d + "/chat_template.json", {"chat_template": TEMPLATE}, 2)
    tok.save(d + "/tokenizer.json", pretty=False)
    added = {str(ids(m)): {"content": m, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                           "special": True} for m in BASIC + MARKS}
    dump_json(d + "/tokenizer_config.json", {
        "add_prefix_space": False, "added_tokens_decoder": added,
        "additional_special_tokens": ["<fake_token_around_image>", "<image>", "<end_of_utterance>"],
        "bos_token": "<|im_start|>", "clean_up_tokenization_spaces": False, "eos_token": "<end_of_utterance>",
        "model_max_length": 16384, "pad_token": "<|im_end|>", "processor_class": "SmolVLMProcessor",
        "tokenizer_class": "GPT2Tokenizer", "unk_token": "<|endoftext|>"}, 2)
    save_file(t, d + "/model.safetensors", metadata={"format": "pt"})
    os.chmod(d + "/model.safetensors", 0o644)


def load(d, dtype=torch.float32, kind="SmolVLM"):
    import transformers
    cls = getattr(transformers, kind + "ForConditionalGeneration")
    m, info = cls.from_pretrained(d, dtype=dtype, attn_implementation="eager", output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "mismatched_keys", "unexpected_keys")), info
    return m.eval()


def processor(d):
    from transformers import AutoImageProcessor, AutoProcessor
    p = AutoProcessor.from_pretrained(d)
    p.image_processor = AutoImageProcessor.from_pretrained(d, use_fast=False)
    assert p.image_seq_len == PER_VIEW
    return p


class Session(C.Session):
    def __init__(self, d):
        self.dir, self.model, self.proc = d, load(d), processor(d)
        self.ref, self._alts, self.cache, self.views = R.Reference(self.model), None, {}, []

    def alts(self):
        if self._alts is None:
            self._alts = {"float64": R.Reference(load(self.dir, torch.float64), torch.float64),
                          "ulp+1": R.Reference(self.model, inv_freq_ulp=1), "ulp-1": R.Reference(self.model, inv_freq_ulp=-1)}
            for a in self._alts.values():
                a.fast = True
        return self._alts

    def inputs(self, files, prompt):
        if not files:
            return self.proc.tokenizer(prompt, return_tensors="pt"), []
        images = [Image.open(f).convert("RGB") for f in files]
        inp = self.proc(images=[images], text=prompt, return_tensors="pt")
        key = tuple(files)
        if key not in self.cache:
            views = [self.proc.image_processor([[i]], return_tensors="pt")["pixel_values"].shape[1] for i in images]
            feats = self.model.model.get_image_features(inp["pixel_values"], inp["pixel_attention_mask"])
            self.cache[key] = [f.reshape(-1, HID) for f in feats.split(views)]
        return inp, self.cache[key]

    def spans(self, ids, feats):
        views = [f.shape[0] // PER_VIEW for f in feats]
        runs = iter(R.spans_of(ids, C.IMAGE_ID, [PER_VIEW] * sum(views)))
        return [[next(runs) for _ in range(n)] for n in views]


def levels(pv):
    """The exact bytes of normalised views."""
    u = ((pv.double() * 0.5 + 0.5) * 255).round()
    assert float((((u / 255) - 0.5) / 0.5 - pv.double()).abs().max()) < 1e-6
    return u.to(torch.uint8)


def store_images(out, ses, name, files, vision=()):
    for f in files:
        inp = ses.proc.image_processor([[Image.open(f).convert("RGB")]], return_tensors="pt")
        pv, base = inp["pixel_values"][0], os.path.basename(f)
        kind = "smolvlm" if name == NAME else "smolvlm_whole"
        save_tensors(f"{out}/preprocess/{kind}/{base}.safetensors", {"pixels_u8": levels(pv)}, {"image": base})
        ft = ses.model.model.get_image_features(inp["pixel_values"], inp["pixel_attention_mask"])
        t = {"features": ft.reshape(-1, HID)}
        if base in vision:
            vm = ses.model.model.vision_model
            mask = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
            t["vision_hidden_0"] = vm.embeddings(pv[:1], mask)[0]
            t["vision_hidden_select"] = vm(pv[:1], patch_attention_mask=mask).last_hidden_state[0]
        save_tensors(f"{out}/features/{name}/{base}.safetensors", t, {"image": base, "model": name})
        print(name, base, list(pv.shape), list(ft.shape), flush=True)


def store_large(out, files):
    """Checksums of the views in the sizes of the published models, 512 and 384 pixels."""
    from transformers import SmolVLMImageProcessor
    rows = []
    for side, f in ((512, files[0]), (512, files[1]), (384, files[2])):
        ip = SmolVLMImageProcessor(size={"longest_edge": 4 * side}, max_image_size={"longest_edge": side},
                                   image_mean=[0.5] * 3, image_std=[0.5] * 3)
        pv = ip([[Image.open(f).convert("RGB")]], return_tensors="pt")["pixel_values"][0]
        rows.append({"image": os.path.basename(f), "side": side, "views": pv.shape[0],
                     "u8_sha256": sha256(levels(pv).contiguous().numpy().tobytes())})
    return rows


def store_counts(out, ses):
    """Tiles and prompts of the published sizes: the processor's own rules, without its pixels."""
    from transformers import SmolVLMImageProcessor
    from transformers.models.idefics3.image_processing_idefics3 import get_resize_output_image_size
    from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

    class Sizes(SmolVLMImageProcessor):
        def resize(self, image, size, **kw):
            if "longest_edge" in size:
                # Given, as the library takes images 1, 3 or 4 pixels high for ones with channels first.
                h, w = get_resize_output_image_size(image, size["longest_edge"], "channels_last")
            else:
                h, w = size["height"], size["width"]
            return np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (h, w, 3))

    tok = ses.proc.tokenizer
    r, rows, prompts = random.Random(22), [], {}
    for i in range(300):
        side = (512, 384, 364)[i % 3]
        edge = 4 * side if i % 5 else r.choice([side, 5 * side, 3 * side + 17])
        ip = Sizes(size={"longest_edge": edge}, max_image_size={"longest_edge": side})
        h, w = r.randint(1, 4000), r.randint(1, 4000 if i % 4 else 300)
        image = ip.resize(np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (h, w, 3)), ip.size)
        image = ip.resize_for_vision_encoder(image, side, input_data_format="channels_last")
        views, n, m = ip.split_image(image, ip.max_image_size, input_data_format="channels_last")
        text = get_image_prompt_string(n, m, 64, "<fake_token_around_image>", "<image>", "<global-img>")
        ids = tok(text)["input_ids"]
        rows.append({"hw": [h, w], "side": side, "edge": edge, "resized_hw": list(image.shape[:2]), "rows": n, "columns": m,
                     "views": len(views), "tokens": len(ids), "visual_tokens": ids.count(C.IMAGE_ID)})
        # One image token for each view.
        prompts[f"{n}x{m}"] = [t for j, t in enumerate(ids) if t != C.IMAGE_ID or ids[j - 1] != C.IMAGE_ID]
    return {"sizes": rows, "prompts": prompts}


@torch.no_grad()
def main():
    out = ".."
    tok = tokenizer()
    assert tok.get_vocab_size() <= VOCAB
    C.IMAGE_ID = tok.token_to_id("<image>")
    C.DISTINCT = 8
    t = weights(2207, C.IMAGE_ID)
    d, whole = f"{out}/models/{NAME}", f"{out}/models/{WHOLE}"
    write_model(d, tok, t)
    write_whole(whole, d)
    img = lambda *n: [f"{out}/images/{x}" for x in n]
    ses, one = Session(d), Session(whole)
    dump_json(f"{out}/ops/smolvlm.json", {
        "large": store_large(out, img("shapes_640x480.png", "wide_1000x200.png", "gray_300x400.png")),
        **store_counts(out, ses)}, None)
    store_images(out, ses, NAME, img("shapes_640x480.png", "wide_1000x200.png", "gray_300x400.png", "tiny_20x30.png"),
                 ("wide_1000x200.png",))
    store_images(out, one, WHOLE, img("shapes_640x480.png"))
    for seed, (s, name, cid, files, fmt) in enumerate([
            (ses, NAME, "text_only", [], TEXT), (ses, NAME, "wide_1000x200", img("wide_1000x200.png"), ONE),
            (ses, NAME, "shapes_640x480", img("shapes_640x480.png"), ONE), (ses, NAME, "tiny_20x30", img("tiny_20x30.png"), ONE),
            (ses, NAME, "two_images", img("wide_1000x200.png", "shapes_640x480.png"), TWO),
            (one, WHOLE, "shapes_640x480", img("shapes_640x480.png"), ONE)]):
        meta, T = C.search(s, files, lambda q: fmt.format(q=q), RUNS, 9000 + seed)
        if not files:
            # Idefics3 is the same model under another name.
            ids = torch.tensor([meta["prompt_ids"]])
            other = load(d, kind="Idefics3")(input_ids=ids).logits[0, -1]
            assert torch.equal(other, ses.model(input_ids=ids).logits[0, -1])
        C.save_case(out, name, cid, files, meta, T, "single_image" if len(files) == 1 else cid)


if __name__ == "__main__":
    main()
