"""Converts an exported model back to checkpoints for further training: OUT/tower.pt and OUT/model.pt.

Weights keep the exported bf16 values, and feature normalisation stays folded into the projector.
"""
import argparse
from pathlib import Path
import torch
from safetensors.torch import load_file
from checkpoint import write
from export import LAYER_NAMES, TOWER_NAMES

PROJECTOR_AND_ENDS = {"multi_modal_projector.linear_1": "p1", "multi_modal_projector.linear_2": "p2",
                      "language_model.model.embed_tokens": "emb", "language_model.model.norm": "norm",
                      "language_model.lm_head": "head"}


def tower_state(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The trained layers: all but the last, which LLaVA does not use."""
    prefix = "vision_tower.vision_model."
    out = {"cls": tensors[prefix + "embeddings.class_embedding"],
           "pos": tensors[prefix + "embeddings.position_embedding.weight"],
           "patch.weight": tensors[prefix + "embeddings.patch_embedding.weight"].flatten(1)}
    for kind in ("weight", "bias"):
        out["pre." + kind] = tensors[f"{prefix}pre_layrnorm.{kind}"]
        for i in range(layer_count(tensors, prefix + "encoder.layers.") - 1):
            source, target = f"{prefix}encoder.layers.{i}.", f"blocks.{i}."
            out[f"{target}qkv.{kind}"] = torch.cat([tensors[f"{source}self_attn.{letter}_proj.{kind}"] for letter in "qkv"])
            for ours, theirs in TOWER_NAMES.items():
                out[f"{target}{ours}.{kind}"] = tensors[f"{source}{theirs}.{kind}"]
    return out


def decoder_state(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Projector and Llama."""
    out = {f"{ours}.{kind}": tensors[f"{theirs}.{kind}"] for theirs, ours in PROJECTOR_AND_ENDS.items()
           for kind in ("weight", "bias") if f"{theirs}.{kind}" in tensors}
    features = out["p1.weight"].shape[1]
    out |= {"fmean": torch.zeros(features), "fstd": torch.ones(features)}
    for i in range(layer_count(tensors, "language_model.model.layers.")):
        for ours, theirs in LAYER_NAMES.items():
            out[f"layers.{i}.{ours}.weight"] = tensors[f"language_model.model.layers.{i}.{theirs}.weight"]
    return out


def layer_count(tensors: dict[str, torch.Tensor], prefix: str) -> int:
    return 1 + max(int(name[len(prefix):].split(".")[0]) for name in tensors if name.startswith(prefix))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", required=True, type=Path, help="directory that export.py wrote")
    p.add_argument("--out", required=True, type=Path)
    a = p.parse_args()
    tensors = {name: t.float() for name, t in load_file(a.model / "model.safetensors").items()}
    write(a.out / "tower.pt", dict(vit=tower_state(tensors)))
    write(a.out / "model.pt", dict(model=decoder_state(tensors), step=0))


if __name__ == "__main__":
    main()
