"""Compares the reading of config.json with that of transformers, over about a hundred changed configurations.

usage: checkpoints.py --pdrop .build/release/pdrop-run [--golden Tests/Goldens] [--only NAME] [--keep FOLDER]

Each configuration is a small LLaVA with one change. Where transformers can build it, it gets random weights of its own
shapes; otherwise the weights of the unchanged model. Both programs then answer the same prompt with the same image.
They agree if logits and tokens are equal or if both refuse. Weights that transformers would initialize at random count
as a refusal. Differences with a known reason are listed in DIFFERENT and in docs/models.md; all others fail.

Needs torch (CPU), transformers, safetensors and Pillow. Written with transformers 4.57.6.
"""

import argparse
import copy
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForImageTextToText, CLIPImageProcessor

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()

PROMPT = "USER: <image>\nDescribe the image in detail. ASSISTANT:"
NEW_TOKENS = 6
IMAGE_TOKEN = 1200
SIDE = 56

BASE = {
    "architectures": ["LlavaForConditionalGeneration"],
    "model_type": "llava",
    "image_token_index": IMAGE_TOKEN,
    "projector_hidden_act": "gelu",
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "text_config": {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "vocab_size": 1216,
    },
    "vision_config": {
        "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 2, "image_size": SIDE, "patch_size": 14, "projection_dim": 24,
    },
}

ABSENT = object()


def change(path, value):
    """A change of one key, such as `text_config.head_dim`."""

    def apply(config):
        *sections, key = path.split(".")
        for section in sections:
            config = config.setdefault(section, {})
        if value is ABSENT:
            config.pop(key, None)
        else:
            config[key] = value

    return apply


def several(**values):
    """Changes of several keys; two underscores separate section and key."""

    def apply(config):
        for path, value in values.items():
            change(path.replace("__", "."), value)(config)

    return apply


LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def cases():
    """Names and changes."""
    yield "unchanged", lambda config: None
    for section in ("text_config", "vision_config"):
        for key in list(BASE[section]):
            yield f"{section}.{key} absent", change(f"{section}.{key}", ABSENT)
            yield f"{section}.{key} null", change(f"{section}.{key}", None)
    for key in ("image_token_index", "projector_hidden_act", "vision_feature_layer", "vision_feature_select_strategy",
                "tie_word_embeddings", "model_type", "text_config", "vision_config"):
        yield f"{key} absent", change(key, ABSENT)
        yield f"{key} null", change(key, None)
    for layer in (0, 1, 3, 4, -1, -3, -4, -5, [-2], [-1], [], [-2, -1], 1.5, "-2"):
        yield f"vision_feature_layer {layer}", change("vision_feature_layer", layer)
    for strategy in ("full", "cls", 3):
        yield f"vision_feature_select_strategy {strategy}", change("vision_feature_select_strategy", strategy)
    for name in ("gelu", "gelu_python", "quick_gelu", "silu", "swish", "relu", "gelu_new", "none"):
        yield f"projector_hidden_act {name}", change("projector_hidden_act", name)
        yield f"vision_config.hidden_act {name}", change("vision_config.hidden_act", name)
    for name in ("silu", "swish", "gelu", "relu"):
        yield f"text_config.hidden_act {name}", change("text_config.hidden_act", name)
    for value in (True, False, None):
        yield f"tie_word_embeddings {value}", change("tie_word_embeddings", value)
        yield f"text_config.tie_word_embeddings {value}", change("text_config.tie_word_embeddings", value)
        yield f"multimodal_projector_bias {value}", change("multimodal_projector_bias", value)
        yield f"text_config.attention_bias {value}", change("text_config.attention_bias", value)
        yield f"text_config.mlp_bias {value}", change("text_config.mlp_bias", value)
    yield "tied at the top and not in text_config", several(tie_word_embeddings=True, text_config__tie_word_embeddings=False)
    for heads in (1, 2, 4, 3, 0, None):
        yield f"text_config.num_key_value_heads {heads}", change("text_config.num_key_value_heads", heads)
    for size in (16, 32, 8, 15, None):
        yield f"text_config.head_dim {size}", change("text_config.head_dim", size)
    for theta in (1e6, 500, 1e30, 0, -1, "1e6"):
        yield f"text_config.rope_theta {theta}", change("text_config.rope_theta", theta)
    for scaling in ({"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 4.0}, {"rope_type": "default"},
                    {"type": "linear", "rope_type": "default", "factor": 2.0}, {"type": "dynamic", "factor": 2.0},
                    {"type": "linear"}, {}, {"type": "none"}, LLAMA3, {"rope_type": "yarn", "factor": 2.0}, "linear"):
        yield f"text_config.rope_scaling {json.dumps(scaling)}", change("text_config.rope_scaling", scaling)
    yield "mistral with both names of the scaling", several(
        text_config__model_type="mistral", text_config__num_key_value_heads=4,
        text_config__rope_scaling={"type": "linear", "rope_type": "default", "factor": 2.0})
    yield "text_config.rope_parameters", change("text_config.rope_parameters", {"rope_type": "default", "rope_theta": 1e4})
    yield "text_config.partial_rotary_factor 0.5", change("text_config.partial_rotary_factor", 0.5)
    for family in ("mistral", "qwen2"):
        name = f"{family} "
        base = dict(text_config__model_type=family, text_config__num_key_value_heads=2)
        yield name + "plain", several(**base)
        yield name + "attention_bias", several(**base, text_config__attention_bias=True)
        yield name + "mlp_bias", several(**base, text_config__mlp_bias=True)
        yield name + "sliding_window null", several(**base, text_config__sliding_window=None)
        yield name + "sliding_window 4096", several(**base, text_config__sliding_window=4096)
        yield name + "sliding_window 16", several(**base, text_config__sliding_window=16)
        yield name + "use_sliding_window", several(**base, text_config__sliding_window=256, text_config__use_sliding_window=True)
        yield name + "heads null", several(text_config__model_type=family, text_config__num_key_value_heads=None)
        yield name + "head_dim 32", several(**base, text_config__head_dim=32)
        yield name + "tied", several(**base, text_config__tie_word_embeddings=True)
        yield name + "tied at the top", several(**base, tie_word_embeddings=True)
    yield "llama sliding_window 256", change("text_config.sliding_window", 256)
    yield "image_token_id", several(image_token_index=ABSENT, image_token_id=IMAGE_TOKEN)
    yield "image_token_id beside another index", several(image_token_index=5, image_token_id=IMAGE_TOKEN)
    yield "image_token_index beside another id", several(image_token_id=5)
    yield "vision image_size 28", change("vision_config.image_size", 28)
    yield "vision image_size 60", change("vision_config.image_size", 60)
    yield "vision patch_size 28", change("vision_config.patch_size", 28)
    yield "vision layer_norm_eps 0.01", change("vision_config.layer_norm_eps", 0.01)
    yield "vision heads 3", change("vision_config.num_attention_heads", 3)
    yield "vision num_channels 4", change("vision_config.num_channels", 4)
    yield "dtype instead of torch_dtype", several(torch_dtype=ABSENT, dtype="bfloat16")
    yield "torch_dtype float16", change("torch_dtype", "float16")
    yield "no architectures", change("architectures", ABSENT)
    yield "other architectures", change("architectures", ["LlavaNextForConditionalGeneration"])
    yield "leftovers of the original layout", several(mm_vision_tower="openai/clip", mm_projector_type="mlp2x_gelu", mm_hidden_size=32)
    for value in (1.5, -1, 10**20, float("nan"), "64", True, [64], 64.0):
        yield f"text_config.hidden_size {value}", change("text_config.hidden_size", value)
        yield f"text_config.max_position_embeddings {value}", change("text_config.max_position_embeddings", value)
    for value in (0.1, 0, -1.0, float("nan"), "1e-5"):
        yield f"text_config.rms_norm_eps {value}", change("text_config.rms_norm_eps", value)


# The cases in which the two are meant to differ, by the beginning of their names, and the reason.
DIFFERENT = {
    "projector_hidden_act relu": "activation", "projector_hidden_act gelu_new": "activation",
    "vision_config.hidden_act relu": "activation", "vision_config.hidden_act gelu_new": "activation",
    "text_config.hidden_act gelu": "activation", "text_config.hidden_act relu": "activation",
    "vision_feature_layer [-2, -1]": "features of several layers",
    "text_config.mlp_bias True": "bias of the MLP",
    'text_config.rope_scaling {"rope_type": "yarn"': "RoPE scaling yarn",
    "text_config.max_position_embeddings": "a context length that is not a positive integer of at most 2^24",
    "mistral sliding_window 16": "sequences longer than the sliding window",
    "text_config.rope_theta -1": "a base of 1 or less", "text_config.rope_theta 0": "a base of 1 or less",
    "text_config.rms_norm_eps": "an epsilon outside 0 to 0.5",
    "model_type absent": "read from architectures", "model_type null": "read from architectures",
    "text_config.hidden_size 64.0": "an integer with an empty fraction",
}


def fill(model):
    """Random weights that keep activations in size, from a fixed seed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim < 2:
                is_norm = name.endswith("weight")
                tensor.copy_(noise * 0.1 + (1 if is_norm else 0))
            else:
                tensor.copy_(noise / max(tensor[0].numel(), 1) ** 0.5 * (4 if "embed" in name else 1.5))
    return model


class Parity:
    def __init__(self, options):
        self.golden = pathlib.Path(options.golden)
        self.model = self.golden / "models" / "tiny-llava-1.5"
        self.program = pathlib.Path(options.pdrop).resolve()
        self.image = self.golden / "images" / "shapes_640x480.png"
        case = json.loads((self.golden / "cases" / "tiny-llava-1.5" / "shapes_640x480.json").read_text())
        self.prompt_ids = case["prompt_ids"]
        self.folder = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="parity-"))

    def write(self, number, config):
        """The directory of a case, with weights."""
        folder = self.folder / f"{number:03}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
            shutil.copy(self.model / name, folder / name)
        (folder / "config.json").write_text(json.dumps(config))
        side = SIDE
        vision = config.get("vision_config")
        if isinstance(vision, dict) and isinstance(vision.get("image_size"), int):
            side = vision["image_size"]
        preprocessor = json.loads((self.model / "preprocessor_config.json").read_text())
        preprocessor["size"] = {"shortest_edge": side}
        preprocessor["crop_size"] = {"height": side, "width": side}
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        try:
            settings = self.settings(folder)
            model = fill(AutoModelForImageTextToText.from_config(settings, attn_implementation="eager").float())
            model.save_pretrained(folder / "saved", safe_serialization=True)
            shutil.move(folder / "saved" / "model.safetensors", folder / "model.safetensors")
        except Exception:
            shutil.copy(self.folder / "000" / "model.safetensors", folder / "model.safetensors")
        shutil.rmtree(folder / "saved", ignore_errors=True)
        return folder

    @staticmethod
    def settings(folder):
        """The configuration of transformers; defaults of the size of the 7B are refused, as they do not fit the weights."""
        settings = AutoConfig.from_pretrained(folder)
        if settings.text_config.hidden_size > 256 or settings.vision_config.hidden_size > 256:
            raise ValueError("other sizes than those of the weights")
        return settings

    def theirs(self, folder):
        """Logits and tokens of transformers."""
        self.settings(folder)
        model, info = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        if info["missing_keys"] or info["mismatched_keys"]:
            raise ValueError(f"missing {sorted(info['missing_keys'])[:2]}")
        processor = CLIPImageProcessor.from_pretrained(folder)
        pixels = processor(Image.open(self.image).convert("RGB"), return_tensors="pt")["pixel_values"]
        vision = model.config.vision_config
        count = (vision.image_size // vision.patch_size) ** 2
        count += model.config.vision_feature_select_strategy == "full"
        ids = []
        for token in self.prompt_ids:
            ids += [token] * (count if token == IMAGE_TOKEN else 1)
        ids = torch.tensor([ids])
        tokens, logits = [], None
        with torch.no_grad():
            for _ in range(NEW_TOKENS):
                last = model(input_ids=ids, pixel_values=pixels, use_cache=False).logits[0, -1].numpy()
                if not np.isfinite(last).all():
                    raise ValueError("the logits are not finite")
                logits = last if logits is None else logits
                tokens.append(int(last.argmax()))
                ids = torch.cat([ids, torch.tensor([[tokens[-1]]])], dim=1)
        return logits, tokens

    def ours(self, folder):
        """Logits and tokens of this engine."""
        trace = folder / "trace"
        run = subprocess.run(
            [self.program, "-m", folder, "--image", self.image, "--raw", "-p", PROMPT, "-n", str(NEW_TOKENS), "--ignore-eos",
             "--policy", "none", "--precision", "f32", "--image-mode", "crop", "--trace", trace, "-t", "1"],
            capture_output=True, text=True, timeout=120)
        if run.returncode != 0:
            if run.returncode not in (1, 3) or not run.stderr.startswith("error: "):
                raise SystemExit(f"{folder}: status {run.returncode}: {run.stderr}")
            raise ValueError(run.stderr.strip().splitlines()[-1])
        tensors = load_file(trace / "trace.safetensors")
        report = json.loads((trace / "trace.json").read_text())
        return tensors["last_logits"], report["tokens"]

    def compare(self, number, name, apply):
        config = copy.deepcopy(BASE)
        apply(config)
        folder = self.write(number, config)
        results = []
        for read in (self.theirs, self.ours):
            try:
                results.append(read(folder))
            except SystemExit:
                raise
            except Exception as error:
                results.append(f"{type(error).__name__}: {error}".replace("\n", " ")[:180])
        theirs, ours = results
        if isinstance(theirs, str) and isinstance(ours, str):
            return "both refuse", ours
        if isinstance(theirs, str) or isinstance(ours, str):
            return "DIFFER", f"theirs {theirs if isinstance(theirs, str) else theirs[1]}, ours {ours if isinstance(ours, str) else ours[1]}"
        difference = float(np.abs(theirs[0] - ours[0]).max())
        if difference < 1e-3 * max(1.0, float(np.abs(theirs[0]).max())) and theirs[1] == ours[1]:
            return "same", f"{difference:.1e}"
        return "DIFFER", f"logits by {difference:.1e}, tokens {theirs[1]} and {ours[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = pathlib.Path(__file__).parent.parent.parent
    parser.add_argument("--pdrop", default=root / ".build/release/pdrop-run")
    parser.add_argument("--golden", default=root / "Tests/Goldens")
    parser.add_argument("--only", help="run only cases whose names contain this text")
    parser.add_argument("--keep", help="folder that keeps the directories of the cases")
    options = parser.parse_args()
    parity = Parity(options)
    torch.set_num_threads(1)
    counts, unexpected = {}, []
    for number, (name, apply) in enumerate(cases()):
        if number > 0 and options.only and options.only not in name:
            continue
        outcome, detail = parity.compare(number, name, apply)
        reason = next((DIFFERENT[key] for key in DIFFERENT if name.startswith(key)), None)
        if outcome == "DIFFER" and reason:
            outcome = "differ as documented"
        if outcome == "DIFFER":
            unexpected.append(name)
        counts[outcome] = counts.get(outcome, 0) + 1
        print(f"{outcome:<21}{name}: {detail}", flush=True)
    print(f"transformers {transformers.__version__}: " + ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())))
    if not options.keep:
        shutil.rmtree(parity.folder)
    sys.exit(f"{len(unexpected)} differ: {', '.join(unexpected)}" if unexpected else 0)


if __name__ == "__main__":
    main()
