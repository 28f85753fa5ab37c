"""A smoke run of the recipe, about two minutes on one core: tokenizer, encoder, decoder, growth, export, answers."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
import torch

RECIPE = Path(__file__).resolve().parent.parent
TOWER = ["--crops", "4", "--pictures", "2", "--width", "64", "--layers", "2", "--save-every", "10"]
DECODER = ["--layers", "4", "--pictures", "2", "--tokens", "64", "--lanes", "2", "--validation", "2", "--evaluate-every", "4"]


def run(script: str, *arguments, check: bool = True) -> str:
    """The output of a script of the recipe."""
    done = subprocess.run([sys.executable, str(RECIPE / script), *map(str, arguments)], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    if check and done.returncode:
        raise AssertionError(f"{script} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def losses(folder: Path) -> list[float]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [r["loss"] for r in records if "loss" in r]


class PipelineTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.work = Path(cls.folder.name)
        run("make_tokenizer.py", "--out", cls.work / "tokenizer")
        run("train_tower.py", "--out", cls.work / "tower", "--crop-steps", 70, "--full-steps", 5, *TOWER)
        cls.inputs = ["--tower", cls.work / "tower/tower.pt", "--tokenizer", cls.work / "tokenizer"]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def decoder(self, name: str, *arguments) -> Path:
        run("train_decoder.py", *self.inputs, "--out", self.work / name, *DECODER, *arguments)
        return self.work / name

    def test_the_tower_learns(self):
        curve = losses(self.work / "tower")
        self.assertLess(curve[-1], curve[0])
        self.assertTrue((self.work / "tower/curves.png").stat().st_size > 1000)

    def test_a_resumed_run_equals_an_uninterrupted_one(self):
        policy = ["--policy", "pyramiddrop"]
        whole = self.decoder("whole", "--steps", 8, *policy)
        halves = self.work / "halves"
        run("train_decoder.py", *self.inputs, "--out", halves, *DECODER, "--steps", 8, "--stop", 4, *policy)
        stopped = torch.load(halves / "state.pt")["step"]
        self.decoder("halves", "--steps", 8, *policy)
        self.assertEqual(stopped, 4)
        a, b = (torch.load(f / "state.pt") for f in (whole, halves))
        self.assertEqual((a["step"], b["step"]), (8, 8))
        refused = subprocess.run([sys.executable, RECIPE / "train_decoder.py", *map(str, self.inputs), "--out", halves, *DECODER,
                                  "--steps", "8", "--policy", "none"], capture_output=True, text=True)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("is of a run with --policy pyramiddrop, not none", refused.stderr)
        for name, tensor in a["model"].items():
            self.assertTrue(torch.equal(tensor, b["model"][name]), name)
        for one, other in zip(a["optimizer"]["momenta"], b["optimizer"]["momenta"]):
            self.assertTrue(torch.equal(one, other))

    def test_decoder_learns_grows_and_answers(self):
        run("align_projector.py", *self.inputs, "--out", self.work / "aligned", "--layers", 4, "--pictures", 12, "--steps", 50)
        self.assertLess(losses(self.work / "aligned")[-1], losses(self.work / "aligned")[0])
        small = self.decoder("small", "--steps", 75, "--evaluate-every", 75, "--init", self.work / "aligned/model.pt")
        curve = losses(small)
        self.assertLess(curve[-1], 0.8 * curve[0])
        deep = self.decoder("deep", "--steps", 2, "--layers", 8, "--init", small / "model.pt", "--policy", "pyramiddrop",
                            "--muon-rate", "0.001", "--adam-rate", "0.0001")
        run("refit_projector.py", "--former", self.inputs[1], "--tower", self.inputs[1], "--decoder", deep / "model.pt", "--out",
            self.work / "refitted", "--pictures", 4, "--steps", 25)
        self.assertLess(losses(self.work / "refitted")[-1], 1)
        run("export.py", *self.inputs, "--decoder", deep / "model.pt", "--out", self.work / "model")
        run("unpack.py", "--model", self.work / "model", "--out", self.work / "unpacked")
        run("export.py", "--tower", self.work / "unpacked/tower.pt", "--decoder", self.work / "unpacked/model.pt", *self.inputs[2:],
            "--out", self.work / "again")
        one, other = ((self.work / f / "model.safetensors").read_bytes() for f in ("model", "again"))
        self.assertEqual(one, other)
        run("train_tower.py", "--init", self.work / "unpacked/tower.pt", "--out", self.work / "further", "--crop-steps", 1,
            "--full-steps", 1, *TOWER)
        run("make_eval.py", "--out", self.work / "eval", "--images", 3)
        said = run("evaluate.py", "--model", self.work / "model", "--data", self.work / "eval", "--limit", 6)
        self.assertIn("| all |", said)


if __name__ == "__main__":
    unittest.main()
