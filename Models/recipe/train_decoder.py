"""Stage 2: trains projector and decoder on packed question turns (loss on answers only) with a frozen vision encoder.

All random numbers depend only on the seed, the step and the process, so a stopped run resumes exactly: start the same
command again.
"""
import argparse
import random
import time
from pathlib import Path
import torch
import torch.distributed as dist
import torch.nn.functional as F
from checkpoint import Log, load_state, save_model, save_state
from decoder import Batch, GRID_TOKENS, VLM, grow
from dropping import Dropping, named, query_rows
from optimizer import Optimizer, schedule
from parallel import FlatGradients, join
from pictures import Pictures, numbers
from tower import load_tower
from turns import IGNORE, Tokenizer, pack
from questions import FAMILIES

VALIDATION_SEED = 424242
READ_FAMILIES = ("color_word", "color_number", "pos_word", "pos_number", "shape_text", "form_value", "form_label")


def answer_loss(logits: torch.Tensor, batch: Batch, first_weight: float):
    """Mean cross entropy [R, vocabulary] against the targets, first answer tokens weighted more; and correctness [R].

    The first token of an answer requires the look-up; the others continue a word that is found.
    """
    wanted = batch.targets != IGNORE
    targets = batch.targets[wanted]
    weights = torch.where(query_rows(batch.targets)[wanted], first_weight, 1.0).to(logits.dtype)
    loss = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()
    return loss, logits.argmax(-1) == targets


def watched_patches(what: str, batch: Batch) -> torch.Tensor:
    """The patches that each row with a target should attend to, [R, V].

    asked, held: patches named by its question, patches that show the answer; letter: patches that show the next
    letter, where the answer is read from the image.
    """
    sample, lane, row = (batch.targets != IGNORE).nonzero(as_tuple=True)
    turn = batch.turn[sample, lane, row]
    if what != "letter":
        return getattr(batch, what)[sample, turn]
    begins = query_rows(batch.targets)[sample, lane, row]
    place = torch.arange(len(row)) - torch.where(begins, torch.arange(len(row)), 0).cummax(0).values
    read = torch.tensor([batch.families[b][t] in READ_FAMILIES for b, t in zip(sample.tolist(), turn.tolist())])
    return batch.held[sample, turn] & (batch.letters[sample] == place[:, None]) & read[:, None]


def attention_loss(seen: torch.Tensor, patches: torch.Tensor, heads: tuple[int, ...]) -> torch.Tensor:
    """-log of the attention of rows to their target patches, for rows that have any.

    seen: [R, h, V] attention of the rows with a target; patches: [R, V]. An auxiliary loss for the first
    stage: from answers alone, the decoder needs some hundred thousand questions before its heads attend selectively.
    """
    asks = patches.any(-1)
    share = (seen[asks][:, list(heads)].float() * patches[asks][:, None]).sum(-1)
    return -share.clamp(min=1e-30).log().mean()


def exact_matches(right: torch.Tensor, batch: Batch) -> dict[str, list[bool]]:
    """Per family, whether every token of each answer is right (equivalent to greedy decoding)."""
    wrong = torch.zeros(batch.held.shape[:2], dtype=torch.bool)
    sample, lane, row = (batch.targets != IGNORE).nonzero(as_tuple=True)
    missed = ~right
    wrong[sample[missed], batch.turn[sample, lane, row][missed]] = True
    found: dict[str, list[bool]] = {}
    for b, families in enumerate(batch.families):
        for t, family in enumerate(families):
            found.setdefault(family, []).append(not bool(wrong[b, t]))
    return found


@torch.no_grad()
def evaluate(model: VLM, tokenizer: Tokenizer, pictures: Pictures, count: int, dropping: Dropping, rank: int, world: int,
             at_once: int = 4) -> dict[str, tuple[int, int]]:
    """Right answers and questions per family on `count` unseen images with all tokens, over all processes."""
    tally = torch.zeros(len(FAMILIES), 2)
    mine = list(range(rank, count, world))
    for i in range(0, len(mine), at_once):
        chosen = mine[i:i + at_once]
        batch = pack(tokenizer, [pictures[n] for n in chosen], random.Random(f"validation {chosen}"), GRID_TOKENS, 4, 56)
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = model(batch, tokenizer.prefix, dropping)
        right = logits.argmax(-1) == batch.targets[batch.targets != IGNORE]
        for family, hits in exact_matches(right, batch).items():
            tally[FAMILIES.index(family)] += torch.tensor([sum(hits), len(hits)])
    if world > 1:
        dist.all_reduce(tally)
    return {f: (int(good), int(all_)) for f, (good, all_) in zip(FAMILIES, tally.tolist()) if all_}


def watched_heads(text: str) -> list[tuple[int, str, tuple[int, ...]]]:
    """"asked:3:0,1 held:5:0,1" -> [(3, "asked", (0, 1)), (5, "held", (0, 1))]"""
    out = []
    for part in text.split():
        what, layer, heads = part.split(":")
        out.append((int(layer), what, tuple(int(h) for h in heads.split(","))))
    return out


def options() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--tower", required=True, help="checkpoint of stage 1")
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--out", required=True, type=Path, help="folder for state, model, log and curves")
    p.add_argument("--init", help="decoder checkpoint to start from; grown if it has fewer layers")
    p.add_argument("--layers", type=int, default=8)
    p.add_argument("--steps", type=int, default=3000)
    p.add_argument("--stop", type=int, help="stop after this step; a later run resumes")
    p.add_argument("--pictures", type=int, default=6, help="per step and process")
    p.add_argument("--fresh", type=int, default=1, help="new images among them; the others come from the window")
    p.add_argument("--window", type=int, default=600)
    p.add_argument("--tokens", type=int, default=128, help="visual tokens per image: objects first, then background")
    p.add_argument("--full-share", type=float, default=0.0, help="share of steps with all 576 tokens, 1/3 of the images")
    p.add_argument("--lanes", type=int, default=4)
    p.add_argument("--lane-length", type=int, default=56)
    p.add_argument("--muon-rate", type=float, default=0.02)
    p.add_argument("--adam-rate", type=float, default=2e-3)
    p.add_argument("--decay", type=float, default=0.45, help="share of the steps with learning rate decay")
    p.add_argument("--first", type=float, default=4.0, help="weight of the first token of an answer")
    p.add_argument("--watch", default="", help='heads with supervised attention, such as "held:4:0,1 letter:5:0,1"')
    p.add_argument("--policy", default="none", choices=["none", "pyramiddrop", "fastv"])
    p.add_argument("--keep", type=float, default=0.5, help="lambda of pyramiddrop, share kept by fastv")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--evaluate-every", type=int, default=250)
    p.add_argument("--validation", type=int, default=48, help="unseen images")
    a = p.parse_args()
    if a.watch and a.policy != "none":
        p.error("heads can only be told where to look while nothing is dropped")
    return a


def start_model(a: argparse.Namespace, tokenizer: Tokenizer, pictures: Pictures) -> VLM:
    """A new decoder with measured feature statistics, or one loaded (and grown) from a checkpoint."""
    torch.manual_seed(a.seed)
    width = pictures[0].features.shape[1]
    if not a.init:
        model = VLM(tokenizer.vocabulary, layers=a.layers, features=width)
        z = torch.cat([pictures[i].features[pictures[i].owner >= 0] for i in range(32)]).float()
        model.fmean.copy_(z.mean(0))
        model.fstd.copy_(z.std(0))
        return model
    state = torch.load(a.init)["model"]
    source = VLM(tokenizer.vocabulary, layers=sum(k.endswith("n1.weight") for k in state), features=width)
    source.load_state_dict(state)
    return source if len(source.layers) == a.layers else grow(source, a.layers)


class Run:
    """State of a training run: model, optimiser, images, log and step."""

    def __init__(self, a: argparse.Namespace):
        self.options = a
        self.rank, self.world = join()
        self.tokenizer, tower = Tokenizer(a.tokenizer), load_tower(a.tower)
        self.pictures = Pictures(tower, a.seed, capacity=a.window + 64)
        self.validation = Pictures(tower, VALIDATION_SEED)
        self.model = start_model(a, self.tokenizer, self.validation)
        self.dropping, self.watched = named(a.policy, a.layers, a.keep), watched_heads(a.watch)
        parameters = list(self.model.parameters())
        hidden = [p for layer in self.model.layers for p in layer.parameters() if p.ndim == 2]
        ids = {id(p) for p in hidden}
        self.optimizer = Optimizer(hidden, [p for p in parameters if id(p) not in ids], a.muon_rate, a.adam_rate,
                                   self.rank, self.world)
        self.gradients = FlatGradients(parameters)
        self.log = Log(a.out, quiet=self.rank > 0)
        self.step = load_state(a.out, self.model, self.optimizer, self.log, vars(a))

    def batch(self) -> Batch:
        a = self.options
        rng = random.Random(f"turns {a.seed} {self.step} {self.rank}")
        full = random.Random(f"full {a.seed} {self.step}").random() < a.full_share
        chosen = numbers(self.step, self.rank, self.world, a.pictures, a.fresh, a.window)
        chosen = chosen[:max(a.fresh, a.pictures // 3)] if full else chosen
        return pack(self.tokenizer, [self.pictures[n] for n in chosen], rng, GRID_TOKENS if full else a.tokens, a.lanes,
                    a.lane_length)

    def train_step(self) -> dict[str, float]:
        """One step on one batch; returns its metrics."""
        a, batch = self.options, self.batch()
        with torch.autocast("cpu", torch.bfloat16):
            logits, seen = self.model(batch, self.tokenizer.prefix, self.dropping, tuple(w[0] for w in self.watched))
        loss, right = answer_loss(logits.float(), batch, a.first)
        total, looks = loss, {}
        for (_, what, heads), attention in zip(self.watched, seen):
            looks[f"look_{what}"] = attention_loss(attention, watched_patches(what, batch), heads)
            total = total + 0.5 * looks[f"look_{what}"]
        for p in self.gradients.parameters:
            p.grad = None
        total.backward()
        norm = self.gradients.average(self.world)
        self.optimizer.step(schedule(self.step, a.steps, decay=a.decay))
        self.step += 1
        first = query_rows(batch.targets)[batch.targets != IGNORE]
        return dict(loss=loss.item(), first=right[first].float().mean().item(), rest=right[~first].float().mean().item(),
                    gradient=norm.item(), questions=float(first.sum()) * self.world,
                    **{k: v.item() for k, v in looks.items()})

    def evaluate(self) -> None:
        a = self.options
        families = evaluate(self.model, self.tokenizer, self.validation, a.validation, self.dropping, self.rank, self.world)
        self.log.evaluation(self.step, families)

    def go(self) -> None:
        a = self.options
        if self.step == 0 and a.init:
            self.evaluate()
        clock = time.process_time()
        stop = a.stop or a.steps
        while self.step < stop:
            shown = self.train_step()
            self.log.training(self.step, shown, time.process_time() - clock)
            clock = time.process_time()
            if self.step % a.evaluate_every == 0 or self.step == stop:
                self.evaluate()
                if self.rank == 0:
                    save_model(a.out, self.model, self.step, vars(a))
                    save_state(a.out, self.model, self.optimizer, self.log, self.step, vars(a))
                clock = time.process_time()


if __name__ == "__main__":
    Run(options()).go()
