"""Tiny LLaVA checkpoints over language models that the goldens do not have, with the reference library's logits.

    python make_languages.py      # torch (CPU), transformers 4.57.6, safetensors

Weights are random and everything is float32. Each folder gets `config.json` and `model.safetensors` as the library writes them,
and `reference.safetensors`: `pixel_values` [1, 3, 28, 28], `tokens` [T] with the image token once per picture, `inv_freq` as the
library computes it, and `logits` [T + 3, N] over the expanded sequence, whose picture has 4 tokens.
`llama3.1-8b.safetensors` has the frequencies of that model alone.
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config

VOCABULARY, IMAGE = 96, 90
SHARED = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
    vocab_size=VOCABULARY, max_position_embeddings=256)
LANGUAGES = {
    "llama3": LlamaConfig(
        **SHARED, attention_bias=True,
        rope_scaling=dict(
            rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=64)),
    "linear": LlamaConfig(**SHARED, rope_scaling=dict(rope_type="linear", factor=4.0)),
    "qwen2": Qwen2Config(**SHARED, rope_theta=1e6),
}


def make(name: str, text) -> None:
    torch.manual_seed(sum(name.encode()))
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, image_seq_length=4)
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            value.copy_(torch.randn_like(value) * (0.3 if value.ndim > 1 else 0.5))
            if "norm" in key and key.endswith("weight"):
                value.add_(1)
    text_tokens = torch.randint(3, 80, (40,))
    tokens = torch.cat([text_tokens[:7], torch.tensor([IMAGE]), text_tokens[7:]])
    expanded = torch.cat([text_tokens[:7], torch.full((4,), IMAGE), text_tokens[7:]])
    pixels = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        logits = model(input_ids=expanded[None], pixel_values=pixels).logits[0]
    folder = pathlib.Path(__file__).parent / name
    folder.mkdir(exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_diff_dict(), indent=1, default=str) + "\n")
    save_file(
        {
            "pixel_values": pixels, "tokens": tokens.to(torch.int32), "logits": logits.contiguous(),
            "inv_freq": model.model.language_model.rotary_emb.inv_freq.clone(),
        },
        folder / "reference.safetensors")


def make_frequencies() -> None:
    """The frequencies of Llama-3.1-8B, whose heads have all three kinds, to the last bit."""
    config = LlamaConfig(
        hidden_size=4096, num_attention_heads=32, rope_theta=5e5, max_position_embeddings=131072,
        rope_scaling=dict(LANGUAGES["llama3"].rope_scaling, original_max_position_embeddings=8192))
    save_file(
        {"inv_freq": LlamaRotaryEmbedding(config).inv_freq.clone()},
        pathlib.Path(__file__).parent / "llama3.1-8b.safetensors")


for name, text in LANGUAGES.items():
    make(name, text)
make_frequencies()
