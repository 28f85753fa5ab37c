"""Tests of the recipe on small cases: `python -m unittest discover -s Models/recipe/tests`."""
import copy
import random
import sys
import unittest
from dataclasses import replace
from pathlib import Path
import torch
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cost import visual_multiply_adds                                                    # noqa: E402
from decoder import Batch, VLM, grow                                                    # noqa: E402
from dropping import Dropping, keep_counts, named, query_rows, visual_scores             # noqa: E402
from pictures import numbers                                                             # noqa: E402
from questions import ask                                                                # noqa: E402
from scenes import make                                                                  # noqa: E402
from turns import IGNORE, choose_patches, fill_lanes                                     # noqa: E402
import reference                                                                         # noqa: E402

torch.set_num_threads(1)
PREFIX = torch.tensor([1, 3])
FULL = 576
PYRAMID = Dropping("pyramiddrop", (1, 2, 3), (0.5, 0.25, 0.125))
FASTV = Dropping("fastv", (2,), (0.5,), renumber=False, previous_layer=True)


def tiny_model(layers: int = 4, seed: int = 0) -> VLM:
    """A decoder of 16 channels in double precision whose attention is far from uniform."""
    torch.manual_seed(seed)
    model = VLM(24, hidden=16, layers=layers, heads=2, intermediate=24, features=6).double()
    with torch.no_grad():
        for layer in model.layers:
            layer.q.weight.mul_(3)
            layer.o.weight.normal_(std=0.2)
            layer.down.weight.normal_(std=0.2)
    return model


def tiny_batch(turns: list[list[tuple[int, int]]], visual: int, lanes: int = 2, length: int = 12, seed: int = 0) -> Batch:
    """turns: per sample, (prompt length, answer length) of each turn; filled lane by lane."""
    rng = torch.Generator().manual_seed(seed)
    B = len(turns)
    shape = (B, lanes, length)
    text, offset = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    turn, targets = torch.full(shape, -1), torch.full(shape, IGNORE)
    for b, sample in enumerate(turns):
        packed = [(torch.randint(4, 24, (p + a,), generator=rng).tolist(), a) for p, a in sample]
        for t, (lane, start, (ids, answer)) in enumerate(fill_lanes(packed, lanes, length)):
            end = start + len(ids)
            text[b, lane, start:end] = torch.tensor(ids)
            turn[b, lane, start:end] = t
            offset[b, lane, start:end] = torch.arange(len(ids))
            if answer:
                targets[b, lane, end - answer - 1:end - 1] = torch.tensor(ids[-answer:])
    places = torch.stack([torch.randperm(FULL, generator=rng)[:visual].sort().values for _ in range(B)])
    none = torch.zeros(B, max(map(len, turns)), visual, dtype=torch.bool)
    return Batch(torch.randn(B, visual, 6, generator=rng, dtype=torch.double), places,
                 torch.ones(B, visual, dtype=torch.bool), text, turn, offset, targets, none, none,
                 torch.full((B, visual), -1), [])


def loss(model: VLM, batch: Batch, dropping: Dropping) -> torch.Tensor:
    logits, _ = model(batch, PREFIX, dropping)
    return torch.nn.functional.cross_entropy(logits, batch.targets[batch.targets != IGNORE])


TURNS = [[(4, 2), (3, 3), (5, 1)], [(3, 2), (6, 4)]]


class DroppingTests(unittest.TestCase):
    def test_ratios_of_one_equal_none(self):
        model, batch = tiny_model(), tiny_batch(TURNS, 40)
        ones = replace(PYRAMID, ratios=(1.0, 1.0, 1.0))
        a, b = loss(model, batch, Dropping()), loss(model, batch, ones)
        self.assertLess(abs(a - b).item(), 1e-6)
        self.assertGreater(abs(a - loss(model, batch, PYRAMID)).item(), 1e-4)

    def test_agrees_with_the_plain_sequence(self):
        """The packed decoder against one flat sequence per sample, with labels sliced too (reference.py)."""
        for dropping in (Dropping(), PYRAMID, FASTV):
            for visual in (FULL, 40):
                if visual != FULL and dropping.renumber and dropping.layers:
                    continue            # part of an image is spread over the positions of a whole one
                model, batch = tiny_model(), tiny_batch(TURNS, visual)
                flat = reference.loss(model, batch, PREFIX, dropping)
                self.assertLess(abs(loss(model, batch, dropping) - flat).item(), 1e-9, f"{dropping.name} {visual}")

    def test_gradients_agree_with_finite_differences(self):
        for dropping in (PYRAMID, FASTV):
            model, batch = tiny_model(), tiny_batch(TURNS, 32)
            loss(model, batch, dropping).backward()
            rng = random.Random(1)
            for name, p in model.named_parameters():
                self.assertIsNotNone(p.grad, name)
                for _ in range(3):
                    i = rng.randrange(p.numel()) if name != "emb.weight" else int(batch.text[0, 0, 0]) * 16 + rng.randrange(16)
                    self.assertLess(abs(p.grad.view(-1)[i].item() - slope(model, batch, dropping, p, i)), 1e-7, f"{name}[{i}]")

    def test_the_choice_has_no_gradient(self):
        """Queries and keys of the last layer get a gradient from attention, none from ranking."""
        model, batch = tiny_model(), tiny_batch(TURNS, 32)
        x = torch.randn(2, 34 + 24, 16, dtype=torch.double, requires_grad=True)
        view = model.view(torch.arange(34).expand(2, -1), torch.ones(2, 34, dtype=torch.bool),
                          (FULL + batch.offset).view(2, -1), torch.zeros(2, 1, 2, 12, 12, dtype=torch.double))
        scores, _ = visual_scores(model.layers[1], x, view, batch.targets, 2)
        self.assertFalse(scores.requires_grad)

    def test_a_sample_without_answer_keeps_its_tokens(self):
        """The sample keeps all tokens, the batch is padded to it, and its neighbour computes as if alone."""
        model = tiny_model()
        both = tiny_batch([[(4, 2), (3, 3)], [(5, 0)]], 32)
        alone = tiny_batch([[(4, 2), (3, 3)]], 32)
        alone = replace(alone, features=both.features[:1], places=both.places[:1])
        self.assertLess(abs(loss(model, both, PYRAMID) - loss(model, alone, PYRAMID)).item(), 1e-12)
        counts = keep_counts(torch.tensor([32, 32]), torch.tensor([32, 32]), torch.tensor([2, 0]), 0.25)
        self.assertEqual(counts.tolist(), [8, 32])

    def test_padding_changes_nothing(self):
        model, batch = tiny_model(), tiny_batch(TURNS, 32)
        padded = replace(batch, features=torch.cat([batch.features, torch.randn(2, 5, 6, dtype=torch.double)], 1),
                         places=torch.cat([batch.places, torch.zeros(2, 5, dtype=torch.long)], 1),
                         live=torch.cat([batch.live, torch.zeros(2, 5, dtype=torch.bool)], 1))
        for dropping in (Dropping(), PYRAMID, FASTV):
            self.assertLess(abs(loss(model, batch, dropping) - loss(model, padded, dropping)).item(), 1e-12)

    def test_query_rows_precede_answers(self):
        targets = torch.tensor([[-100, -100, 7, 8, -100, -100, 9, -100]])
        self.assertEqual(query_rows(targets).nonzero()[:, 1].tolist(), [2, 6])

    def test_kept_counts_of_the_paper(self):
        for keep, expected in ((0.4, [230, 92, 36]), (0.5, [288, 144, 72]), (0.6, [345, 207, 124])):
            policy, first, answers = named("pyramiddrop", 32, keep), torch.tensor([FULL]), torch.tensor([1])
            self.assertEqual(policy.layers, (8, 16, 24))
            self.assertEqual([int(keep_counts(first, first, answers, r)) for r in policy.ratios], expected)


class CostTests(unittest.TestCase):
    def test_multiply_adds_of_the_paper(self):
        """LLaVA-1.5-7B, 576 visual tokens: 3.82, 1.78 and 2.01 TFLOPs."""
        for policy, expected in ((named("none", 32), 3.8172), (named("pyramiddrop", 32), 1.7774), (named("fastv", 32), 2.0075),
                                 (named("pyramiddrop", 32, 0.4), 1.5380), (named("pyramiddrop", 32, 0.6), 2.0603)):
            self.assertEqual(round(visual_multiply_adds(policy, 32, 576, 4096, 11008) / 1e12, 4), expected)


def slope(model: VLM, batch: Batch, dropping: Dropping, p: torch.Tensor, i: int, h: float = 1e-5) -> float:
    """Central difference of the loss in element i of p."""
    with torch.no_grad():
        flat = p.view(-1)
        flat[i] += h
        up = loss(model, batch, dropping)
        flat[i] -= 2 * h
        down = loss(model, batch, dropping)
        flat[i] += h
    return ((up - down) / (2 * h)).item()


class GrowthTests(unittest.TestCase):
    def test_a_grown_model_computes_the_same(self):
        model, batch = tiny_model(), tiny_batch(TURNS, 32)
        deep = grow(copy.deepcopy(model).float(), 12).double()
        self.assertLess(abs(loss(model, batch, Dropping()) - loss(deep, batch, Dropping())).item(), 1e-6)


class DataTests(unittest.TestCase):
    def test_answers_are_where_the_questions_say(self):
        rng = random.Random(4)
        for _ in range(20):
            _, labels, facts = make(rng, 24)
            things = facts.texts + facts.shapes
            self.assertEqual((facts.owner >= 0).tolist(), (labels[0] > 0).tolist())
            for q in ask(facts, rng):
                held = [things[i] for i in q.held]
                if q.family in ("color_word", "pos_number", "shape_text", "form_value", "form_label"):
                    self.assertEqual([t.text for t in held], [q.answer])
                elif q.family == "count":
                    self.assertEqual(str(len(held)), q.answer)

    def test_chosen_patches_are_things_first(self):
        _, _, facts = make(random.Random(2), 24)
        owner = facts.owner.reshape(-1)
        things = int((owner >= 0).sum())
        chosen = choose_patches(owner, things + 20, 12, random.Random(0))
        self.assertEqual((len(chosen), int((owner[chosen] >= 0).sum())), (things + 20, things))
        self.assertEqual(len(choose_patches(owner, 40, 12, random.Random(0))), 40)

    def test_pictures_of_a_step_do_not_depend_on_the_past(self):
        self.assertEqual(numbers(50, 1, 2, 6, 2, 30), numbers(50, 1, 2, 6, 2, 30))
        self.assertTrue(all(n % 2 == 1 and 2 * 70 <= n < 2 * 102 + 2 for n in numbers(50, 1, 2, 6, 2, 30)))


if __name__ == "__main__":
    unittest.main()
