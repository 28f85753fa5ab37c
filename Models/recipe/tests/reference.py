"""PyramidDrop and FastV in training on one flat sequence per sample, as in the reference code: embeddings, labels and
positions are sliced together. A slow, plain implementation that the packed decoder is compared with."""
import torch
from decoder import GRID_TOKENS, VLM, Batch
from dropping import Dropping
from turns import IGNORE


def rotate(x: torch.Tensor, positions: torch.Tensor, model: VLM) -> torch.Tensor:
    """x: [h, S, d]"""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * model.cos[positions] + turned * model.sin[positions]


def probabilities(layer, x, positions, turn, model) -> torch.Tensor:
    """Attention [h, S, S]: causal, and a turn never attends to another (turn -1: prefix and image)."""
    S, h = x.shape[0], layer.heads
    u = layer.n1(x)
    q, k = (rotate(p(u).view(S, h, -1).transpose(0, 1), positions, model) for p in (layer.q, layer.k))
    sees = torch.ones(S, S, dtype=torch.bool).tril() & ((turn[None] == -1) | (turn[:, None] == turn[None]))
    return (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~sees, float("-inf")).softmax(-1)


def sample_losses(model: VLM, batch: Batch, b: int, prefix: torch.Tensor, dropping: Dropping) -> torch.Tensor:
    """Cross entropies of sample b's answer tokens."""
    P, visual = len(prefix), batch.features.shape[1]
    said = batch.turn[b].view(-1) >= 0
    x = torch.cat([model.emb(prefix), model.project(batch.features[b]), model.emb(batch.text[b].view(-1)[said])])
    turn = torch.cat([torch.full((P + visual,), -1), batch.turn[b].view(-1)[said]])
    labels = torch.cat([torch.full((P + visual,), IGNORE), batch.targets[b].view(-1)[said]])
    offsets = batch.offset[b].view(-1)[said]
    positions = torch.cat([torch.arange(P), P + batch.places[b], P + GRID_TOKENS + offsets])
    before = None
    for index, layer in enumerate(model.layers):
        ratio = dropping.ratio_before(index)
        if ratio is not None:
            source = (model.layers[index - 1], before) if dropping.previous_layer else (layer, x)
            p = probabilities(source[0], source[1], positions, turn, model).mean(0)
            rows = (labels != IGNORE) & (torch.cat([labels[:1], labels[:-1]]) == IGNORE)
            score = p[rows].mean(0)[P:P + visual]
            keep = int(batch.features.shape[1] * ratio)
            best = score.topk(keep).indices.sort().values
            rows = torch.cat([torch.arange(P), P + best, torch.arange(P + visual, len(x))])
            x, labels, turn, positions, visual = x[rows], labels[rows], turn[rows], positions[rows], keep
            if dropping.renumber:
                positions = torch.cat([torch.arange(P + keep), P + keep + offsets])
        before = x
        p = probabilities(layer, x, positions, turn, model)
        v = layer.v(layer.n1(x)).view(len(x), layer.heads, -1).transpose(0, 1)
        x = x + layer.o((p @ v).transpose(0, 1).reshape(x.shape))
        u = layer.n2(x)
        x = x + layer.down(torch.nn.functional.silu(layer.gate(u)) * layer.up(u))
    wanted = labels != IGNORE
    return torch.nn.functional.cross_entropy(model.head(model.norm(x[wanted])), labels[wanted], reduction="none")


def loss(model: VLM, batch: Batch, prefix: torch.Tensor, dropping: Dropping) -> torch.Tensor:
    return torch.cat([sample_losses(model, batch, b, prefix, dropping) for b in range(len(batch.features))]).mean()
