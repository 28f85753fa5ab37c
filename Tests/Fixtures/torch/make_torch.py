"""Saves small tensors with torch.save in the ways that checkpoints have been saved, and their values beside them.

    pip install torch==2.13.0 safetensors==0.8.0 numpy
    python3 make_torch.py

expected.safetensors holds, as F32, the values of every tensor that can be read, under the names "<file>/<tensor>".
"""

import collections
import os
import struct
import sys
import zipfile

import torch
from safetensors.torch import save_file
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
EXPECTED = {}


def save(name, values, **options):
    torch.save(values, os.path.join(HERE, name), **options)


def expect(name, values, *tensors):
    for tensor in tensors:
        EXPECTED[f"{name}/{tensor}"] = values[tensor].detach().float().clone(memory_format=torch.contiguous_format)


def numbers(*shape, dtype=torch.float32):
    return (torch.arange(torch.Size(shape).numel()).reshape(shape) * 0.37 - 1.5).to(dtype)


# Every type of number; those that came after the storage classes are saved in another way.
types = {str(t)[6:]: torch.arange(3).to(t) for t in (
    torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
    torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)}
types["float32"] = numbers(2, 3)
types["float16"] = torch.tensor([[1.5, -0.0, 65504.0], [6e-8, float("inf"), -2.25]], dtype=torch.float16)
types["bfloat16"] = numbers(3, 2, dtype=torch.bfloat16)
save("types.bin", types)
expect("types.bin", types, "float32", "float16", "bfloat16")

# A module's state: an ordered dictionary with _metadata, a buffer of whole numbers and two names for one weight.
module = nn.Module()
module.embed_tokens = nn.Embedding(4, 3)
module.lm_head = nn.Linear(3, 4, bias=False)
module.norm = nn.LayerNorm(3)
module.register_buffer("position_ids", torch.arange(4)[None])
with torch.no_grad():
    module.embed_tokens.weight.copy_(numbers(4, 3))
    module.norm.bias.copy_(numbers(3))
module.lm_head.weight = module.embed_tokens.weight
state = module.half().state_dict()
save("state.bin", state)
expect("state.bin", state, "embed_tokens.weight", "lm_head.weight", "norm.weight", "norm.bias")

# Views of one storage, shapes and strides at the edge, parameters, and values that are no tensors.
whole = numbers(4, 6)
views = {
    "whole": whole, "rows": whole[1:3], "row": whole[2], "element": whole[3, 5], "columns": whole[:, 1:3], "transposed": whole.T,
    "expanded": whole[:1, :1].expand(2, 3), "one_row_of_columns": whole[:1, 1:3], "column": whole[1:2, 2:3],
    "empty": torch.zeros(0, 5), "scalar": torch.tensor(2.5), "parameter": nn.Parameter(numbers(2, 2)),
    "fixed_parameter": nn.Parameter(numbers(2, 2, dtype=torch.bfloat16), requires_grad=False),
    "none": None, "true": True, "int": 5, "negative": -70000, "long": 1 << 40, "huge": -(1 << 80), "float": 0.5, "text": "größer",
    "list": [1, [2, torch.zeros(1)], "three"], "one": [4], "tuple": (1, (2, 3), (), (4,), (5, 6, 7), (8, 9, 10, 11)), 7: "seven",
    "dict": {"tensor": torch.zeros(2), "inner": {}},
}
save("views.bin", views)
expect("views.bin", views, "whole", "rows", "row", "element", "one_row_of_columns", "column", "empty", "scalar", "parameter",
       "fixed_parameter")

# The archives of PyTorch 1.6: one folder name for all, addresses for keys, no record of the byte order.
old = collections.OrderedDict(weight=numbers(2, 3, dtype=torch.float16), bias=numbers(3))
save("recent.bin", old)
with zipfile.ZipFile(os.path.join(HERE, "recent.bin")) as recent, zipfile.ZipFile(os.path.join(HERE, "old.bin"), "w") as archive:
    pickle = recent.read("recent/data.pkl")
    for key in ("0", "1"):
        address = str(94123456789000 + 64 * int(key)).encode()
        short, long = (b"X" + struct.pack("<I", len(k)) + k for k in (key.encode(), address))
        assert pickle.count(short) == 1
        pickle = pickle.replace(short, long)
    members = [("archive/data.pkl", pickle)]
    members += [(f"archive/data/{94123456789000 + 64 * k}", recent.read(f"recent/data/{k}")) for k in (0, 1)]
    for name, content in members + [("archive/version", b"3\n")]:
        archive.writestr(zipfile.ZipInfo(name), content)
os.remove(os.path.join(HERE, "recent.bin"))
expect("old.bin", old, "weight", "bias")


class Command:
    def __reduce__(self):
        return os.system, ("true",)


# What is refused: other formats, other layouts, and a call of a function that has nothing to do with tensors.
save("legacy.bin", collections.OrderedDict(), _use_new_zipfile_serialization=False)
save("protocol4.bin", old, pickle_protocol=4)
save("nested.bin", {"epoch": 3, "state_dict": old})
torch.manual_seed(0)
save("module.bin", nn.Linear(2, 2))
save("command.bin", {"weight": numbers(2), "command": Command()})

assert sys.byteorder == "little"
save_file(EXPECTED, os.path.join(HERE, "expected.safetensors"))
