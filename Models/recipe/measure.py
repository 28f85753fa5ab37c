"""Runs trained models with pdrop-run under all policies; makes counterparts of the paper's table 3 and figure 3.

Answers stay in OUT/answers and are reused by later runs. Writes OUT/policies.md, OUT/differences.md (paired differences
of the other models from the first), OUT/one-drop.md and OUT/one-drop.png.
"""
import argparse
import statistics
import subprocess
from pathlib import Path
from score import read_records, said, share, wilson

POLICIES = {
    "none": ["--policy", "none"],
    "pyramiddrop 0.6": ["--policy", "pyramiddrop", "--lambda", "0.6"],
    "pyramiddrop 0.5": ["--policy", "pyramiddrop", "--lambda", "0.5"],
    "pyramiddrop 0.4": ["--policy", "pyramiddrop", "--lambda", "0.4"],
    "fastv, r 0.5": ["--policy", "fastv", "--fastv-r", "0.5"],
    "random, as pyramiddrop 0.5": ["--policy", "random"],
}
LAYERS, SHARES = (2, 8, 16, 24), (0.75, 0.5, 0.25, 0.1)


class Measurement:
    """Accuracy of models on one set of questions."""

    def __init__(self, a: argparse.Namespace):
        self.options = a
        self.truth = {r["question_id"]: r["answer"] for r in read_records(a.data / "answers.jsonl")}
        self.models = dict(m.split("=", 1) for m in a.models)

    def right(self, model: str, name: str, policy: list[str]) -> dict[int, bool]:
        """For each question, whether `model` answers it exactly under the policy given as options of pdrop-run."""
        path = self.options.out / "answers" / f"{model}-{name}.jsonl".replace(", ", "-").replace(" ", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [self.options.pdrop_run, "-m", self.models[model], "--input", self.options.data / "question.jsonl",
                   "--image-folder", self.options.data / "images", "--output", path, "--resume", "--no-timings", "-n", "16", *policy]
        subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return {question: answer == self.truth[question] for question, answer in said(read_records(path)).items()}

    def policies(self) -> str:
        """Markdown table: a row per policy, a column per model."""
        lines = ["| run with | " + " | ".join(f"trained: {m}" for m in self.models) + " |", "| --- |" + " --- |" * len(self.models)]
        for name, policy in POLICIES.items():
            lines.append(f"| {name} | " + " | ".join(share(list(self.right(m, name, policy).values())) for m in self.models) + " |")
        return "\n".join(lines)

    def differences(self) -> str:
        """Markdown table: accuracy difference of the other models from the first on the same questions, in points."""
        first, *others = self.models
        lines = ["| run with | " + " | ".join(f"{m}, less {first}" for m in others) + " |", "| --- |" + " --- |" * len(others)]
        for name, policy in POLICIES.items():
            base = self.right(first, name, policy)
            lines.append(f"| {name} | " + " | ".join(difference(self.right(m, name, policy), base) for m in others) + " |")
        return "\n".join(lines)

    def one_drop(self) -> dict[tuple[str, int, float], dict[int, bool]]:
        """Accuracy when one drop before a layer keeps a share, and without a drop (share 1)."""
        found = {}
        for model in self.options.curves:
            whole = self.right(model, "none", POLICIES["none"])
            for layer in LAYERS:
                found[model, layer, 1.0] = whole
                for kept in SHARES:
                    policy = ["--policy", "pyramiddrop", "--layer-list", str(layer), "--image-token-ratio-list", str(kept)]
                    found[model, layer, kept] = self.right(model, f"layer {layer} keeps {kept}", policy)
        return found


def difference(right: dict[int, bool], base: dict[int, bool]) -> str:
    """Mean of paired differences in points, with its 95% interval."""
    points = [100 * (right[q] - base[q]) for q in base]
    middle, half = statistics.fmean(points), 1.96 * statistics.stdev(points) / len(points) ** 0.5
    return f"{middle:+.1f} ({middle - half:+.1f} to {middle + half:+.1f})"


def one_drop_table(found, models: list[str]) -> str:
    shares = (1.0, *SHARES)
    lines = ["| trained | drop in front of layer | " + " | ".join(f"{s:g} kept" for s in shares) + " |",
             "| --- | ---: |" + " --- |" * len(shares)]
    for model in models:
        for layer in LAYERS:
            lines.append(f"| {model} | {layer} | " + " | ".join(share(list(found[model, layer, s].values())) for s in shares) + " |")
    return "\n".join(lines)


def draw(found, models: list[str], path: Path) -> None:
    """Plots accuracy over the share kept, a line per layer, a panel per model."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, panels = pyplot.subplots(1, len(models), figsize=(5 * len(models), 4), sharey=True, squeeze=False)
    for panel, model in zip(panels[0], models):
        for layer in LAYERS:
            points = [(s, found[model, layer, s]) for s in (1.0, *SHARES)]
            middle = [100 * sum(r.values()) / len(r) for _, r in points]
            ends = [wilson(sum(r.values()), len(r)) for _, r in points]
            bars = [[m - 100 * low for m, (low, _) in zip(middle, ends)], [100 * high - m for m, (_, high) in zip(middle, ends)]]
            panel.errorbar([s for s, _ in points], middle, yerr=bars, marker="o", capsize=2, label=f"layer {layer}")
        panel.set(title=f"trained: {model}", xlabel="share of visual tokens kept", ylim=(0, 100))
        panel.invert_xaxis()
    panels[0][0].set(ylabel="right answers, %")
    panels[0][0].legend(title="one drop in front of")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("models", nargs="+", help="NAME=DIRECTORY")
    p.add_argument("--curves", nargs="*", default=[], help="names of the models to draw")
    p.add_argument("--pdrop-run", default="../../.build/release/pdrop-run")
    p.add_argument("--data", type=Path, default=Path("../tiny-textvqa-eval"), help="folder with question.jsonl, answers.jsonl, images/")
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    measurement = Measurement(a)
    table = measurement.policies()
    (a.out / "policies.md").write_text(table + "\n")
    print(table)
    if len(a.models) > 1:
        (a.out / "differences.md").write_text(measurement.differences() + "\n")
    if a.curves:
        found = measurement.one_drop()
        (a.out / "one-drop.md").write_text(one_drop_table(found, a.curves) + "\n")
        draw(found, a.curves, a.out / "one-drop.png")
        print(one_drop_table(found, a.curves))


if __name__ == "__main__":
    main()
