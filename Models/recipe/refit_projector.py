"""Refits a trained decoder's projector to a further trained vision encoder, so that its visual tokens stay the same.

The new vision encoder is more accurate but has different features. The projector learns to map the new features to its
outputs for the former ones, patch by patch, over whole images; the decoder is then fine-tuned as usual.
"""
import argparse
import random
from pathlib import Path
import torch
from checkpoint import Log, write
from decoder import VLM
from scenes import make
from tower import GRID, load_tower, patches


def features_of_both(former, tower, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [count 576, F] of the same images from both vision encoders."""
    rng, pairs = random.Random(f"refit {seed}"), []
    for _ in range(count):
        pixels = patches([make(rng, GRID)[0]], GRID)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            pairs.append([t(pixels)[0, 1:].bfloat16() for t in (former, tower)])
    old, new = zip(*pairs)
    return torch.cat(old), torch.cat(new)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--former", required=True, help="the vision encoder that the decoder was trained with")
    p.add_argument("--tower", required=True, help="the further trained vision encoder")
    p.add_argument("--decoder", required=True)
    p.add_argument("--out", required=True, type=Path, help="folder for the decoder checkpoint, log and curves")
    p.add_argument("--pictures", type=int, default=600)
    p.add_argument("--steps", type=int, default=2500)
    p.add_argument("--batch", type=int, default=1024, help="patches")
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    state = torch.load(a.decoder)["model"]
    shape = dict(layers=sum(k.endswith("n1.weight") for k in state), features=state["p1.weight"].shape[1])
    former, model = (VLM(state["emb.weight"].shape[0], **shape) for _ in range(2))
    for each in (former, model):
        each.load_state_dict(state)
    old, new = features_of_both(load_tower(a.former), load_tower(a.tower), a.pictures, a.seed)
    model.fmean.copy_(new.float().mean(0))
    model.fstd.copy_(new.float().std(0))
    log = Log(a.out, quiet=False)
    optimizer = torch.optim.AdamW([*model.p1.parameters(), *model.p2.parameters()], lr=a.rate, weight_decay=0.0)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, a.rate, total_steps=a.steps, pct_start=0.05)
    for step in range(1, a.steps + 1):
        chosen = torch.randint(len(new), (a.batch,))
        with torch.no_grad():
            wanted = former.project(old[chosen].float())
        loss = (model.project(new[chosen].float()) - wanted).pow(2).mean() / wanted.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        log.training(step, dict(loss=loss.item()), 0)
    log.draw()
    write(a.out / "model.pt", dict(model=model.state_dict(), step=0))


if __name__ == "__main__":
    main()
