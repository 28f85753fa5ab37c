"""LLaVA projector and Llama decoder in plain torch, with many question turns packed after one image.

Shapes: B images, V visual tokens (prefix included where stated), N lanes of L text tokens, D hidden, h heads,
d head size. A lane holds a sequence of turns; a turn attends to the image and to itself, never to another turn.
"""
import math
from dataclasses import dataclass
import torch
import torch.nn as nn
import torch.nn.functional as F
from dropping import Dropping, drop

GRID_TOKENS = 576
MAX_POSITIONS = 768
HIDDEN = float("-inf")


@dataclass
class Batch:
    """Packed images and turns; text positions count from the end of the image."""
    features: torch.Tensor          # [B, V, F] of the vision encoder
    places: torch.Tensor            # [B, V] patch index in the 24x24 grid
    live: torch.Tensor              # [B, V] False for padding
    text: torch.Tensor              # [B, N, L] token ids
    turn: torch.Tensor              # [B, N, L] index of the turn, -1 for padding
    offset: torch.Tensor            # [B, N, L] position within the turn
    targets: torch.Tensor           # [B, N, L] the next token, -100 where there is no loss
    asked: torch.Tensor             # [B, T, V] patches named by the question of turn t
    held: torch.Tensor              # [B, T, V] patches that show the answer of turn t
    letters: torch.Tensor           # [B, V] index of the letter of its word that a patch shows, -1 for none
    families: list[list[str]]       # [B][T]


class RMSNorm(nn.Module):
    """RMSNorm with a weight, as in Llama."""

    def __init__(self, size: int, epsilon: float = 1e-5):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(size)), epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


@dataclass
class View:
    """Positions and attention masks of the rows of a sequence [B, V + N L, D]."""
    visual: int                     # V, prefix included
    lanes: int                      # N
    cos: torch.Tensor               # [B, S, 1, d]
    sin: torch.Tensor               # [B, S, 1, d]
    visual_mask: torch.Tensor       # [B, 1, V, V] added to the scores of visual rows
    padding: torch.Tensor           # [B, 1, 1, V] added to the scores of text rows on visual keys
    lane_mask: torch.Tensor         # [B, 1, N, L, L] added to the scores of text rows in their lane


class Layer(nn.Module):
    """One Llama layer."""

    def __init__(self, hidden: int, heads: int, intermediate: int, output_std: float):
        super().__init__()
        self.heads = heads
        self.n1, self.n2 = RMSNorm(hidden), RMSNorm(hidden)
        self.q, self.k, self.v, self.o = (nn.Linear(hidden, hidden, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(hidden, intermediate, bias=False) for _ in range(2))
        self.down = nn.Linear(intermediate, hidden, bias=False)
        for m in (self.q, self.k, self.v, self.gate, self.up):
            nn.init.normal_(m.weight, std=hidden ** -0.5)
        for m in (self.o, self.down):
            nn.init.normal_(m.weight, std=output_std)

    def queries_keys(self, normed: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor):
        """Queries and keys [B, h, S, d], with RoPE, of normalised rows [B, S, D]."""
        B, S, D = normed.shape
        z = torch.cat([self.q(normed).view(B, S, self.heads, -1), self.k(normed).view(B, S, self.heads, -1)], 2)
        half = z.shape[-1] // 2
        turned = torch.cat([-z[..., half:], z[..., :half]], -1)
        z = (z * cos + turned * sin).to(z.dtype).transpose(1, 2)
        return z[:, :self.heads], z[:, self.heads:]

    def forward(self, x: torch.Tensor, view: View):
        """x: [B, S, D] -> the next x and the attention of text rows to visual keys [B, h, N, L, V]."""
        u = self.n1(x)
        q, k = self.queries_keys(u, view.cos, view.sin)
        v = self.v(u).view(*u.shape[:2], self.heads, -1).transpose(1, 2)
        with torch.autocast("cpu", enabled=False):
            attended, seen = attention(q, k, v, view)
        x = x + self.o(attended.transpose(1, 2).reshape(x.shape))
        u = self.n2(x)
        return x + self.down(F.silu(self.gate(u)) * self.up(u)), seen


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, view: View):
    """Causal attention of visual rows among themselves and of text rows to all visual rows and their own turn.

    q, k, v: [B, h, S, d] -> [B, h, S, d], and the probabilities of text rows on visual keys [B, h, N, L, V].
    """
    B, h, S, d = q.shape
    V, N = view.visual, view.lanes
    L = (S - V) // N
    q = q * d ** -0.5
    image_k, image_v = k[:, :, :V], v[:, :, :V]
    p = torch.softmax(q[:, :, :V] @ image_k.mT + view.visual_mask, -1)
    image_out = p @ image_v
    text_q, text_k, text_v = (t[:, :, V:].reshape(B, h, N, L, d) for t in (q, k, v))
    on_image = q[:, :, V:] @ image_k.mT + view.padding
    on_lane = text_q @ text_k.mT + view.lane_mask
    p = torch.softmax(torch.cat([on_image.view(B, h, N, L, V), on_lane], -1), -1)
    seen = p[..., :V]
    text_out = (seen.reshape(B, h, N * L, V) @ image_v).view(B, h, N, L, d) + p[..., V:] @ text_v
    return torch.cat([image_out, text_out.reshape(B, h, N * L, d)], 2), seen


def rope_tables(size: int, theta: float = 10000.0):
    """Cosines and sines [MAX_POSITIONS, d]."""
    frequency = theta ** (-torch.arange(0, size, 2).float() / size)
    angle = torch.arange(MAX_POSITIONS).float()[:, None] * frequency
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


class VLM(nn.Module):
    """Projector and decoder on given features of the vision encoder. Parameter names are those of the checkpoints."""

    def __init__(self, vocabulary: int, hidden: int = 128, layers: int = 8, heads: int = 4, intermediate: int = 384,
                 features: int = 192):
        super().__init__()
        self.heads = heads
        self.p1, self.p2 = nn.Linear(features, hidden), nn.Linear(hidden, hidden)
        self.emb = nn.Embedding(vocabulary, hidden)
        self.layers = nn.ModuleList(Layer(hidden, heads, intermediate, 0.02 / math.sqrt(2 * layers)) for _ in range(layers))
        self.norm = RMSNorm(hidden)
        self.head = nn.Linear(hidden, vocabulary, bias=False)
        nn.init.normal_(self.emb.weight, std=0.5)
        nn.init.normal_(self.head.weight, std=0.02)
        self.register_buffer("fmean", torch.zeros(features))     # scale of the features; folded into p1 on export
        self.register_buffer("fstd", torch.ones(features))
        cos, sin = rope_tables(hidden // heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """[B, V, F] -> [B, V, D]"""
        return self.p2(F.gelu(self.p1((features - self.fmean) / self.fstd)))

    def view(self, visual_positions, live, text_positions, lane_mask) -> View:
        """visual_positions, live: [B, V]; text_positions: [B, N L] -> positions and masks of the rows."""
        V = visual_positions.shape[1]
        positions = torch.cat([visual_positions, text_positions], 1)
        dtype = lane_mask.dtype
        padding = torch.zeros(live.shape, dtype=dtype).masked_fill_(~live, HIDDEN)[:, None, None]
        later = torch.ones(V, V, dtype=torch.bool).triu(1)
        mask = padding.expand(-1, 1, V, V).masked_fill(later, HIDDEN)
        mask.diagonal(dim1=2, dim2=3).zero_()      # a padding row attends to itself, so no softmax is empty
        return View(V, lane_mask.shape[2], self.cos[positions][:, :, None], self.sin[positions][:, :, None], mask,
                    padding, lane_mask)

    def forward(self, batch: Batch, prefix: torch.Tensor, dropping: Dropping, watched: tuple[int, ...] = ()):
        """prefix: ids before the image, [P].

        Returns logits at the rows that have a target [R, vocabulary], and for each watched layer the attention of
        these rows to the image [R, h, V].
        """
        B, N, L = batch.text.shape
        P = len(prefix)
        wanted = batch.targets != -100
        text = self.emb(batch.text).view(B, N * L, -1)
        image = self.project(batch.features).to(text.dtype)
        x = torch.cat([self.emb(prefix).expand(B, -1, -1), image, text], 1)
        visual_positions = torch.cat([torch.arange(P).expand(B, -1), P + batch.places], 1)
        live = torch.cat([torch.ones(B, P, dtype=torch.bool), batch.live], 1)
        start = torch.full((B, 1), P + GRID_TOKENS)
        offsets = batch.offset.view(B, N * L)
        mask = lane_mask(batch.turn, torch.bfloat16 if torch.is_autocast_enabled("cpu") else text.dtype)
        view = self.view(visual_positions, live, start + offsets, mask)
        before, before_view, watching = None, None, []
        for index, layer in enumerate(self.layers):
            ratio = dropping.ratio_before(index)
            if ratio is not None:
                ranker = (self.layers[index - 1], before, before_view) if dropping.previous_layer else (layer, x, view)
                kept = drop(dropping, ratio, ranker, x, visual_positions, live, start, batch, P)
                if kept is not None:
                    x, visual_positions, live, start = kept
                    view = self.view(visual_positions, live, start + offsets, mask)
            before, before_view = x, view
            x, seen = layer(x, view)
            if index in watched:
                watching.append(seen[..., P:].permute(0, 2, 3, 1, 4)[wanted])
        rows = x[:, view.visual:].view(B, N, L, -1)[wanted]
        return self.head(self.norm(rows)), watching


def lane_mask(turn: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """turn: [B, N, L] -> [B, 1, N, L, L]: a text row attends to itself and to earlier rows of its turn."""
    L = turn.shape[-1]
    allowed = (turn[..., :, None] == turn[..., None, :]) & torch.ones(L, L, dtype=torch.bool).tril()
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, HIDDEN)[:, None]


def grow(source: VLM, layers: int) -> VLM:
    """A deeper copy with the same output: layer i becomes layer i r; the others copy it with zero residual output."""
    count = len(source.layers)
    if layers % count:
        raise ValueError(f"{layers} layers are not a multiple of {count}")
    r = layers // count
    state = source.state_dict()
    first = source.layers[0]
    deep = VLM(source.emb.num_embeddings, source.emb.embedding_dim, layers, source.heads, first.gate.out_features,
               source.p1.in_features)
    deep.load_state_dict({k: v for k, v in state.items() if not k.startswith("layers.")}, strict=False)
    for j, layer in enumerate(deep.layers):
        layer.load_state_dict(source.layers[j // r].state_dict())
        if j % r:
            nn.init.zeros_(layer.o.weight)
            nn.init.zeros_(layer.down.weight)
    return deep
