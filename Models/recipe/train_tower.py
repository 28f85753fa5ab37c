"""Stage 1: trains the vision encoder to predict the content of every patch (kind, colour, character, word, ...).

Training starts with crops of 12x12 patches at any place of the position grid and ends with whole images. All random
numbers depend only on the seed, the step and the process, so a stopped run resumes exactly: repeat the command.
"""
import argparse
import random
import time
from pathlib import Path
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from checkpoint import Log, load_state, save_state, write
from labels import L_PART, L_SLOT
from optimizer import Optimizer, schedule
from parallel import FlatGradients, join
from scenes import make
from tower import GRID, NPOS, Tower, patches
from vocabulary import CHARACTER_COUNT, MAX_WORD

CROP = 12
CLASSES = dict(type=8, col=8, cont=6, cnt=7, ch=CHARACTER_COUNT, idx=MAX_WORD)      # label planes 0 to 5
WEIGHTS = dict(type=1, col=0.5, cont=0.5, cnt=0.3, ch=2, idx=0.5, slot=2, part=0.7)
LATE = ("slot", "part", "idx", "cnt")           # full weight once half of the characters are right


class Heads(nn.Module):
    """Linear heads on a patch: its attributes, its word, and the neighbouring word in a form."""

    def __init__(self, width: int):
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.attr = nn.Linear(width, sum(CLASSES.values()))
        self.slot = nn.Linear(width, MAX_WORD * CHARACTER_COUNT)
        self.part = nn.Linear(width, MAX_WORD * CHARACTER_COUNT)

    def forward(self, x: torch.Tensor, labels: torch.Tensor):
        """x: [n, width] patches; labels: [n, planes] -> losses and accuracies, by name."""
        loss, right = {}, {}
        x = self.ln(x)
        thing = labels[:, 0] > 0
        for plane, (name, z) in enumerate(zip(CLASSES, self.attr(x).float().split(list(CLASSES.values()), 1))):
            y = labels[:, plane].long()
            known = (y != 255) & (thing if plane else torch.ones_like(thing))
            if known.any():
                loss[name] = F.cross_entropy(z[known], y[known])
                right[name] = (z[known].argmax(1) == y[known]).float().mean()
        for name, head, plane in (("slot", self.slot, L_SLOT), ("part", self.part, L_PART)):
            known = thing & (labels[:, plane] != 255)
            if known.any():
                z = head(x[known]).float().view(-1, CHARACTER_COUNT)
                y = labels[known][:, plane:plane + MAX_WORD].reshape(-1).long()
                loss[name] = F.cross_entropy(z, y)
                hits = (z.argmax(1) == y).view(-1, MAX_WORD)
                right[name], right[name + "_word"] = hits.float().mean(), hits.all(1).float().mean()
        return loss, right


def whiten(tower: Tower, rng: random.Random, crops: int = 300) -> None:
    """Sets the patch embedding to scaled principal components of patches, so that flat colour does not hide strokes."""
    seen = []
    for _ in range(crops):
        image, labels, _ = make(rng, CROP)
        seen.append(patches([image], CROP).view(CROP * CROP, -1)[torch.from_numpy(labels[0].reshape(-1) > 0)])
    x = torch.cat(seen)
    x = x - x.mean(0)
    variance, basis = torch.linalg.eigh(x.T @ x / len(x))
    content = tower.patch.weight.shape[0] - NPOS
    variance, basis = variance.flip(0)[:content], basis.flip(1)[:, :content]
    tower.patch.weight.data.zero_()
    tower.patch.weight.data[:content] = 0.7 * (basis / (variance + 0.05).sqrt()).T


def draw(rng: random.Random, count: int, grid: int):
    """Patches [count, g, g, 588] and their labels [count g g, planes]."""
    scenes = [make(rng, grid) for _ in range(count)]
    labels = np.stack([s[1] for s in scenes])
    return patches([s[0] for s in scenes], grid), torch.from_numpy(labels).permute(0, 2, 3, 1).reshape(count * grid * grid, -1)


def options() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--out", required=True, type=Path, help="folder for state, model, log and curves")
    p.add_argument("--init", help="checkpoint to start from")
    p.add_argument("--crop-steps", type=int, default=3000)
    p.add_argument("--full-steps", type=int, default=900)
    p.add_argument("--crops", type=int, default=16, help="per step and process")
    p.add_argument("--pictures", type=int, default=4, help="whole images, per step and process")
    p.add_argument("--muon-rate", type=float, default=0.02)
    p.add_argument("--adam-rate", type=float, default=1.5e-3)
    p.add_argument("--width", type=int, default=192)
    p.add_argument("--layers", type=int, default=6)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--save-every", type=int, default=200)
    return p.parse_args()


class Run:
    """State of a training run of the vision encoder."""

    def __init__(self, a: argparse.Namespace):
        self.options = a
        self.rank, self.world = join()
        torch.manual_seed(a.seed)
        self.tower, heads = Tower(a.width, a.layers, a.width // 64, 4 * a.width), Heads(a.width)
        self.model = nn.ModuleDict(dict(vit=self.tower, heads=heads))
        if a.init:
            state = torch.load(a.init)
            self.tower.load_state_dict(state["vit"])
            if "heads" in state:                # an unpacked vision encoder has none
                heads.load_state_dict(state["heads"])
        else:
            whiten(self.tower, random.Random(a.seed))
        parameters = list(self.model.parameters())
        hidden = [p for b in self.tower.blocks for p in b.parameters() if p.ndim == 2]
        ids = {id(p) for p in hidden}
        self.optimizer = Optimizer(hidden, [p for p in parameters if id(p) not in ids], a.muon_rate, a.adam_rate, self.rank,
                                   self.world, slow=[self.tower.patch.weight, self.tower.pos, self.tower.cls])
        self.gradients = FlatGradients(parameters)
        self.log = Log(a.out, quiet=self.rank > 0)
        if a.init:
            self.log.means["ch"] = 1.0          # a trained vision encoder is past the first phase
        self.steps = a.crop_steps + a.full_steps
        self.step = load_state(a.out, self.model, self.optimizer, self.log, vars(a))

    def train_step(self) -> dict[str, float]:
        """One step on new images; returns its metrics."""
        a, rng = self.options, random.Random(f"tower {self.options.seed} {self.step} {self.rank}")
        grid, count = (CROP, a.crops) if self.step < a.crop_steps else (GRID, a.pictures)
        pixels, labels = draw(rng, count, grid)
        top, left = rng.randint(0, GRID - grid), rng.randint(0, GRID - grid)
        table = self.tower.pos[1:].view(GRID, GRID, -1)
        with torch.autocast("cpu", torch.bfloat16):
            y = self.tower(pixels, table[top:top + grid, left:left + grid].reshape(grid * grid, -1))
            loss, right = self.model["heads"](y[:, 1:].reshape(-1, a.width), labels)
        ready = self.log.means.get("ch", 0) > 0.5
        total = sum(WEIGHTS[k] * v * (1 if ready or k not in LATE else 0.05) for k, v in loss.items())
        for p in self.gradients.parameters:
            p.grad = None
        total.backward()
        norm = self.gradients.average(self.world)
        self.optimizer.step(schedule(self.step, self.steps))
        self.step += 1
        return dict(loss=total.item(), gradient=norm.item(), **{k: v.item() for k, v in right.items()})

    def save(self) -> None:
        parts = {name: part.state_dict() for name, part in self.model.items()}
        write(self.options.out / "tower.pt", dict(**parts, step=self.step))
        save_state(self.options.out, self.model, self.optimizer, self.log, self.step, vars(self.options))
        self.log.draw()

    def go(self) -> None:
        clock = time.process_time()
        while self.step < self.steps:
            shown = self.train_step()
            self.log.training(self.step, shown, time.process_time() - clock)
            clock = time.process_time()
            if self.rank == 0 and (self.step % self.options.save_every == 0 or self.step == self.steps):
                self.save()
                clock = time.process_time()


if __name__ == "__main__":
    Run(options()).go()
