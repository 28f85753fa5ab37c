"""Checkpoints for resuming a run, and its log with learning curves."""
import json
import os
import resource
import time
from pathlib import Path
import torch

EVERY = 25


def write(path: Path, content: dict) -> None:
    """Saves atomically, so that a killed run never leaves a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    torch.save(content, fresh)
    os.replace(fresh, path)


def save_model(out: Path, model, step: int, options: dict) -> None:
    write(out / "model.pt", dict(model=model.state_dict(), step=step, options={k: str(v) for k, v in options.items()}))


def save_state(out: Path, model, optimizer, log: "Log", step: int, options: dict) -> None:
    write(out / "state.pt", dict(model=model.state_dict(), optimizer=optimizer.state_dict(), log=log.state_dict(), step=step,
                                 options=deciding(options)))


def deciding(options: dict) -> dict[str, str]:
    """The options that determine the result of a run, as text: all but its folder, stop step and evaluation steps."""
    return {k: str(v) for k, v in options.items() if k not in ("out", "stop", "evaluate_every", "save_every")}


def load_state(out: Path, model, optimizer, log: "Log", options: dict) -> int:
    """Resumes from the state in `out` if there is one; returns the step. The state of another run ends the program."""
    path = out / "state.pt"
    if not path.exists():
        return 0
    state = torch.load(path)
    theirs, ours = state["options"], deciding(options)
    for name in ours:
        if theirs.get(name) != ours[name]:
            raise SystemExit(f"{path} is of a run with --{name.replace('_', '-')} {theirs.get(name)}, not {ours[name]}: "
                             "give its options, or another --out")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    log.load_state_dict(state["log"])
    return state["step"]


def peak_mib() -> int:
    """The peak RSS of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Log:
    """Training log: JSON lines in log.jsonl and on standard output, and curves.png at each evaluation."""

    def __init__(self, out: Path, quiet: bool):
        self.out, self.quiet = out, quiet
        self.means: dict[str, float] = {}
        self.records: list[dict] = []
        self.questions, self.seconds, self.last = 0.0, 0.0, time.time()

    def training(self, step: int, shown: dict[str, float], seconds: float) -> None:
        """Logs one step: running means of its metrics, and its processor time."""
        self.questions += shown.pop("questions", 0.0)
        self.seconds += seconds
        for k, v in shown.items():
            self.means[k] = 0.96 * self.means.get(k, v) + 0.04 * v
        if step % EVERY == 0:
            now = time.time()
            self.add(dict(step=step, questions=int(self.questions), cpu=round(self.seconds, 1),
                          wall=round((now - self.last) / EVERY, 3), peak_mib=peak_mib(), **{k: round(v, 4) for k, v in self.means.items()}))
            self.last = now

    def evaluation(self, step: int, families: dict[str, tuple[int, int]]) -> None:
        """Logs the accuracy, per family and overall."""
        good, total = (sum(f[i] for f in families.values()) for i in (0, 1))
        shares = {family: round(g / n, 3) for family, (g, n) in families.items()}
        self.add(dict(step=step, exact=round(good / total, 4), families=shares))
        if not self.quiet:
            self.draw()

    def add(self, record: dict) -> None:
        self.records.append(record)
        if not self.quiet:
            print(json.dumps(record), flush=True)
            self.out.mkdir(parents=True, exist_ok=True)
            with open(self.out / "log.jsonl", "w" if len(self.records) == 1 else "a") as f:
                f.write(json.dumps(record) + "\n")

    def draw(self) -> None:
        """Draws curves.png: loss and first-token accuracy over steps, exact match at the evaluations."""
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
        seen = [r for r in self.records if "loss" in r]
        left.plot([r["step"] for r in seen], [r["loss"] for r in seen])
        left.set(xlabel="step", ylabel="loss")
        right.plot([r["step"] for r in seen], [r.get("first", 0) for r in seen], label="first token right, training")
        tested = [r for r in self.records if "exact" in r]
        right.plot([r["step"] for r in tested], [r["exact"] for r in tested], "o-", label="exact match, unseen images")
        right.set(xlabel="step", ylim=(0, 1))
        right.legend()
        figure.tight_layout()
        figure.savefig(self.out / "curves.png", dpi=100)
        pyplot.close(figure)

    def state_dict(self) -> dict:
        return dict(means=self.means, records=self.records, questions=self.questions, seconds=self.seconds)

    def load_state_dict(self, state: dict) -> None:
        self.means, self.records = state["means"], state["records"]
        self.questions, self.seconds = state["questions"], state["seconds"]
        if not self.quiet:
            (self.out / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in self.records))
