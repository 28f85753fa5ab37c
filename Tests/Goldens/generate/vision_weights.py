"""Random weights of the vision encoders: the parts that CLIP and SigLIP share."""
import math

import torch


def patch_embedding(n, width, patch):
    """`n` draws normal numbers. Most of the energy of a picture is in its low frequencies: some response to the mean
    and to two gradients is kept."""
    pe = n(width, 3, patch, patch, std=0.9 / math.sqrt(3 * patch * patch))
    yy, xx = torch.meshgrid(torch.linspace(-1, 1, patch), torch.linspace(-1, 1, patch), indexing="ij")
    for basis, k in ((torch.ones_like(xx), 0.7), (xx, 1.5), (yy, 1.5)):
        pe = pe + k * n(width, 3, 1, 1) * basis / (patch * patch)
    return pe


def encoder_layers(n, gain, prefix, layers, width, inner):
    """The tensors of `layers` layers under `prefix`, such as `vision_tower.vision_model.encoder.layers.`"""
    t = {}
    for i in range(layers):
        p = f"{prefix}{i}."
        for nm in ("layer_norm1", "layer_norm2"):
            t[p + nm + ".weight"], t[p + nm + ".bias"] = gain(width), n(width, std=0.1)
        for nm, s in (("q_proj", 1.4), ("k_proj", 1.4), ("v_proj", 0.9), ("out_proj", 0.6)):
            t[p + f"self_attn.{nm}.weight"] = n(width, width, std=s / math.sqrt(width))
            t[p + f"self_attn.{nm}.bias"] = n(width, std=0.1)
        t[p + "mlp.fc1.weight"], t[p + "mlp.fc1.bias"] = n(inner, width, std=1.2 / math.sqrt(width)), n(inner, std=0.2)
        t[p + "mlp.fc2.weight"], t[p + "mlp.fc2.bias"] = n(width, inner, std=0.8 / math.sqrt(inner)), n(width, std=0.1)
    return t
