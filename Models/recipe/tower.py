"""CLIP-style vision encoder in plain torch; export.py renames its parameters to those of CLIPVisionModel."""
import math
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

GRID = 24
PATCH = 14
NPOS = 48          # channels initialised as position code (24 row + 24 column); the rest as content
FREQ = torch.logspace(math.log10(1.5), math.log10(0.13), NPOS // 4)


def position_code(grid: int = GRID) -> torch.Tensor:
    """Sines and cosines of row and column, [grid grid, NPOS]."""
    p = torch.arange(grid).float()[:, None] * FREQ[None]
    e = torch.cat([p.sin(), p.cos()], 1)
    row = e[:, None].expand(grid, grid, NPOS // 2)
    col = e[None].expand(grid, grid, NPOS // 2)
    return torch.cat([row, col], -1).reshape(grid * grid, NPOS)


def shift_query(d: int) -> torch.Tensor:
    """Matrix R with (R code(p)) . code(q) largest at q = p + d for one axis."""
    c, s = torch.diag((FREQ * d).cos()), torch.diag((FREQ * d).sin())
    return torch.cat([torch.cat([c, s], 1), torch.cat([-s, c], 1)], 0)


OFFSETS = [[(0, -1), (0, 1), (1, 0)], [(-1, 0), (0, -2), (0, 2)], [(0, -1), (0, 1), (-1, 0)], [(0, -2), (0, 2), (0, 0)]]


class Block(nn.Module):
    """One layer of CLIP's vision transformer."""

    def __init__(self, d: int, heads: int, mlp: int):
        super().__init__()
        self.h = heads
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, mlp), nn.Linear(mlp, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(B, T, 3, self.h, D // self.h).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(a.transpose(1, 2).reshape(B, T, D))
        u = self.fc1(self.ln2(x))
        return x + self.fc2(u * torch.sigmoid(1.702 * u))


class Tower(nn.Module):
    """Returns the hidden state that LLaVA uses (output of the last trained block, CLS first)."""

    def __init__(self, d: int = 192, layers: int = 6, heads: int = 6, mlp: int = 768):
        super().__init__()
        self.d, self.heads, self.mlp = d, heads, mlp
        self.patch = nn.Linear(3 * PATCH * PATCH, d, bias=False)   # == conv 14x14 stride 14
        self.cls = nn.Parameter(torch.randn(d) * 0.02)
        pos = torch.zeros(GRID * GRID + 1, d)
        pos[1:, d - NPOS:] = position_code()
        self.pos = nn.Parameter(pos)
        self.pre = nn.LayerNorm(d)
        self.blocks = nn.ModuleList(Block(d, heads, mlp) for _ in range(layers))
        for n, m in self.named_modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=0.02 if not n.endswith(("out", "fc2")) else 0.02 / math.sqrt(2 * layers))
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        nn.init.normal_(self.patch.weight, std=0.04)
        for b in self.blocks:
            nn.init.normal_(b.qkv.weight[2 * d:], std=d ** -0.5)
            nn.init.normal_(b.out.weight, std=0.5 * d ** -0.5)
            nn.init.normal_(b.fc1.weight, std=d ** -0.5)
        hd = d // heads
        for b, offs in zip(self.blocks, OFFSETS):                  # the first heads attend to a neighbour at first
            for h, (dr, dc) in enumerate(offs[:heads]):
                W = b.qkv.weight.data
                W[h * hd:h * hd + NPOS, d - NPOS:] = 3.0 * torch.block_diag(shift_query(dr), shift_query(dc))
                W[d + h * hd:d + h * hd + NPOS, d - NPOS:] = 3.0 * torch.eye(NPOS)

    def forward(self, px: torch.Tensor, pos: torch.Tensor | None = None) -> torch.Tensor:
        """px: [B, g, g, 588] normalised patches; pos: [g g, d] positions, the whole 24x24 table if not given."""
        B, g = px.shape[0], px.shape[1]
        x = self.patch(px.reshape(B, g * g, -1)) + (self.pos[1:] if pos is None else pos)
        c = (self.cls + self.pos[0]).view(1, 1, -1).expand(B, 1, -1).to(x.dtype)
        x = self.pre(torch.cat([c, x], 1))
        for b in self.blocks:
            x = b(x)
        return x


MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def patches(images: list[np.ndarray], grid: int) -> torch.Tensor:
    """uint8 images [B][S, S, 3] -> float [B, g, g, 588], normalised as in CLIP, ordered by channel, row, column."""
    a = (np.stack(images).astype(np.float32) / 255 - MEAN) / STD
    a = a.reshape(len(images), grid, PATCH, grid, PATCH, 3).transpose(0, 1, 3, 5, 2, 4)
    return torch.from_numpy(np.ascontiguousarray(a)).view(len(images), grid, grid, 3 * PATCH * PATCH)


def load_tower(path) -> Tower:
    """The trained vision encoder of a checkpoint, frozen."""
    state = torch.load(path)["vit"]
    width = state["cls"].shape[0]
    tower = Tower(width, sum(k.endswith("ln1.weight") for k in state), width // 64, 4 * width)
    tower.load_state_dict(state)
    return tower.eval().requires_grad_(False)
