"""Question turns as token ids, packed in lanes after their image."""
import random
import numpy as np
import torch
from decoder import Batch, GRID_TOKENS
from pictures import Picture
from questions import Question, ask

END = 2
IGNORE = -100


class Tokenizer:
    """Text to ids through the exported tokenizer; answers end with </s>."""

    def __init__(self, path: str):
        from transformers import AutoTokenizer
        self.tokens = AutoTokenizer.from_pretrained(path)
        self.image = self.tokens.convert_tokens_to_ids("<image>")
        self.prefix = torch.tensor(self.tokens("USER: <image>").input_ids[:-1])
        self.vocabulary = -(-len(self.tokens) // 64) * 64
        self.cache: dict[tuple[str, str], tuple[list[int], int]] = {}

    def turn(self, question: str, answer: str) -> tuple[list[int], int]:
        """The ids after the image, and the number of answer ids at their end (with </s>)."""
        key = (question, answer)
        if key not in self.cache:
            prompt = self.tokens(f"USER: <image>\n{question} ASSISTANT:").input_ids
            whole = self.tokens(f"USER: <image>\n{question} ASSISTANT: {answer}").input_ids
            assert whole[:len(prompt)] == prompt, "the answer changes the tokenization of the prompt"
            if len(self.cache) > 200_000:
                self.cache.clear()
            self.cache[key] = (whole[whole.index(self.image) + 1:] + [END], len(whole) - len(prompt) + 1)
        return self.cache[key]


def by_family(questions: list[Question]):
    """The questions, one per family in turn, so that rare families are represented."""
    families: dict[str, list[Question]] = {}
    for q in questions:
        families.setdefault(q.family, []).append(q)
    while families:
        for name in list(families):
            yield families[name].pop()
            if not families[name]:
                del families[name]


def choose_patches(owner: np.ndarray, count: int, ground: int, rng: random.Random) -> np.ndarray:
    """The `count` of 576 patches for the decoder, in order: objects, and at least `ground` background patches."""
    if count >= GRID_TOKENS:
        return np.arange(GRID_TOKENS)
    things, empty = np.flatnonzero(owner >= 0).tolist(), np.flatnonzero(owner < 0).tolist()
    of_ground = min(len(empty), max(ground, count - len(things)))
    return np.array(sorted(rng.sample(empty, of_ground) + rng.sample(things, count - of_ground)))


def fill_lanes(turns, lanes: int, length: int):
    """Places turns [(ids, ...)] in the first lane with space until a turn fits none; yields (lane, start, turn)."""
    used, misses = [0] * lanes, 0
    for turn in turns:
        lane = next((n for n in range(lanes) if used[n] + len(turn[0]) <= length), None)
        if lane is None:
            misses += 1
            if misses == lanes:
                return
            continue
        yield lane, used[lane], turn
        used[lane] += len(turn[0])


def pack(tokenizer: Tokenizer, pictures: list[Picture], rng: random.Random, count: int, lanes: int, length: int,
         ground: int = 12) -> Batch:
    """A batch of images with `count` visual tokens each and the turns that fit `lanes` lanes of `length` tokens."""
    B = len(pictures)
    shape = (B, lanes, length)
    text, offset = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    turn, targets = np.full(shape, -1, np.int64), np.full(shape, IGNORE, np.int64)
    places, chosen = [], []
    for b, picture in enumerate(pictures):
        patches = choose_patches(picture.owner, count, ground, rng)
        places.append(patches)
        questions = list(by_family(ask(picture.facts, rng)))
        rows = []
        turns = ((*tokenizer.turn(q.text, q.answer), q) for q in questions)
        for lane, start, (ids, answer, question) in fill_lanes(turns, lanes, length):
            end = start + len(ids)
            text[b, lane, start:end] = ids
            turn[b, lane, start:end] = len(rows)
            offset[b, lane, start:end] = np.arange(len(ids))
            targets[b, lane, end - answer - 1:end - 1] = ids[-answer:]
            rows.append(question)
        chosen.append(rows)
    T = max(len(r) for r in chosen)
    asked, held = np.zeros((2, B, T, len(places[0])), bool)
    for b, (picture, rows) in enumerate(zip(pictures, chosen)):
        shown = picture.owner[places[b]]
        for t, q in enumerate(rows):
            asked[b, t], held[b, t] = np.isin(shown, q.asked), np.isin(shown, q.held)
    index = torch.from_numpy(np.stack(places))
    features = torch.stack([p.features[i] for p, i in zip(pictures, index)]).float()
    letters = torch.from_numpy(np.stack([p.letters[i] for p, i in zip(pictures, places)]))
    return Batch(features, index, torch.ones(index.shape, dtype=torch.bool), *map(torch.from_numpy, (text, turn, offset)),
                 torch.from_numpy(targets), torch.from_numpy(asked), torch.from_numpy(held), letters,
                 [[q.family for q in r] for r in chosen])
