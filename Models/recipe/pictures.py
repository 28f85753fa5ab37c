"""Images by number: a number gives the same image and the same features on every run.

A stopped run therefore resumes exactly without stored images.
"""
import random
from collections import OrderedDict
from dataclasses import dataclass
import numpy as np
import torch
from labels import L_IDX
from scenes import Facts, make
from tower import Tower, patches


@dataclass
class Picture:
    """Features [576, F] in bf16; for each patch [576] its object (-1: background) and the index of the letter of its
    word (-1: none); and the objects of the scene."""
    features: torch.Tensor
    owner: np.ndarray
    letters: np.ndarray
    facts: Facts


class Pictures:
    """Draws images by number and caches the most recently used ones."""

    def __init__(self, tower: Tower, seed: int, layout: str | None = None, capacity: int = 1200):
        self.tower, self.seed, self.layout, self.capacity = tower, seed, layout, capacity
        self.kept: OrderedDict[int, Picture] = OrderedDict()

    def __getitem__(self, number: int) -> Picture:
        if number in self.kept:
            self.kept.move_to_end(number)
            return self.kept[number]
        image, labels, facts = make(random.Random(f"picture {self.seed} {number}"), 24, self.layout)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            features = self.tower(patches([image], 24))[0, 1:].bfloat16()
        letters = labels[L_IDX].reshape(-1).astype(np.int16)
        letters[(letters == 255) | (labels[0].reshape(-1) > 2)] = -1
        self.kept[number] = Picture(features, facts.owner.reshape(-1), letters, facts)
        if len(self.kept) > self.capacity:
            self.kept.popitem(last=False)
        return self.kept[number]


def numbers(step: int, rank: int, world: int, count: int, fresh: int, window: int) -> list[int]:
    """The image numbers of a process in a step: `fresh` new ones, the rest from the last `window` of its own."""
    first = step * fresh
    new = [first + i for i in range(fresh)]
    rng = random.Random(f"batch {step} {rank}")
    old = [max(0, first - window) + rng.randrange(max(1, min(first, window))) for _ in range(count - fresh)]
    return [n * world + rank for n in new + old]
