"""Stage 2a: trains the projector to preserve the attributes that the vision encoder encodes, before the decoder.

A projector trained on answers alone keeps the features that locate an object and loses the rest. After 40,000
questions the heads attended to the right object, but its colour could be read from 69% of the projected patches,
against 92% of the vision encoder's. Linear heads on the projected patches, discarded afterwards, supervise all
attributes at once.
"""
import argparse
import random
from pathlib import Path
import torch
import torch.nn as nn
import torch.nn.functional as F
from checkpoint import Log, write
from decoder import VLM
from labels import L_PART, L_SLOT
from scenes import make
from tower import GRID, load_tower, patches
from turns import Tokenizer
from vocabulary import CHARACTER_COUNT, MAX_WORD

WORD = [(L_SLOT + i, CHARACTER_COUNT, 1.0) for i in range(MAX_WORD)]
NEIGHBOUR = [(L_PART + i, CHARACTER_COUNT, 0.4) for i in range(MAX_WORD)]
PLANES = [(0, 8, 1.0), (1, 8, 2.0), (2, 6, 1.0), (3, 7, 0.3), *WORD, *NEIGHBOUR]       # label plane, classes, weight
PLACE = 0.3                                                                            # weight of row and column
SCALE = 0.5                                                                            # of text embeddings


def patches_of_things(tower, count: int, seed: int):
    """Features [n, F], labels [n, planes] and row and column [n, 2] of the object patches of `count` images."""
    rng = random.Random(f"alignment {seed}")
    features, labels, places = [], [], []
    for _ in range(count):
        image, planes, _ = make(rng, GRID)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            y = tower(patches([image], GRID))[0, 1:].float()
        planes = torch.from_numpy(planes).flatten(1).T.long()
        shown = (planes[:, 0] > 0).nonzero()[:, 0]
        features.append(y[shown])
        labels.append(planes[shown])
        places.append(torch.stack([shown // GRID, shown % GRID], 1))
    return torch.cat(features), torch.cat(labels), torch.cat(places)


class Readings(nn.Module):
    """Linear heads on projected patches, normalised as by the decoder's first norm."""

    def __init__(self, hidden: int):
        super().__init__()
        self.planes = nn.Linear(hidden, sum(p[1] for p in PLANES))
        self.place = nn.Linear(hidden, 2 * GRID)

    def forward(self, x: torch.Tensor, labels: torch.Tensor, places: torch.Tensor):
        """x: [n, D] -> loss, accuracy of colours, accuracy of first characters."""
        x = F.rms_norm(x, (x.shape[-1],))
        loss, right = x.new_zeros(()), {}
        for (plane, _, weight), z in zip(PLANES, self.planes(x).split([p[1] for p in PLANES], 1)):
            known = labels[:, plane] != 255
            if known.any():
                loss = loss + weight * F.cross_entropy(z[known], labels[known, plane])
                right[plane] = (z[known].argmax(1) == labels[known, plane]).float().mean()
        for axis, z in enumerate(self.place(x).split(GRID, 1)):
            loss = loss + PLACE * F.cross_entropy(z, places[:, axis])
        return loss, right[1], right[L_SLOT]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--tower", required=True)
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--out", required=True, type=Path, help="folder for the decoder checkpoint, log and curves")
    p.add_argument("--layers", type=int, default=8, help="of the untrained decoder after the projector")
    p.add_argument("--pictures", type=int, default=600)
    p.add_argument("--steps", type=int, default=2500)
    p.add_argument("--batch", type=int, default=1024, help="patches")
    p.add_argument("--rate", type=float, default=3e-3)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    features, labels, places = patches_of_things(load_tower(a.tower), a.pictures, a.seed)
    model = VLM(Tokenizer(a.tokenizer).vocabulary, layers=a.layers, features=features.shape[1])
    model.fmean.copy_(features.mean(0))
    model.fstd.copy_(features.std(0))
    heads, log = Readings(model.emb.embedding_dim), Log(a.out, quiet=False)
    optimizer = torch.optim.AdamW([*model.p1.parameters(), *model.p2.parameters(), *heads.parameters()], lr=a.rate)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, a.rate, total_steps=a.steps, pct_start=0.05)
    for step in range(1, a.steps + 1):
        chosen = torch.randint(len(features), (a.batch,))
        loss, colour, character = heads(model.project(features[chosen]), labels[chosen], places[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        log.training(step, dict(loss=loss.item(), colour=colour.item(), character=character.item()), 0)
    with torch.no_grad():
        size = model.project(features[:4096]).pow(2).mean().sqrt()
        for parameter in model.p2.parameters():
            parameter.mul_(SCALE / size)
    log.draw()
    write(a.out / "model.pt", dict(model=model.state_dict(), step=0))


if __name__ == "__main__":
    main()
