"""Cost of a training step under each policy: multiply-adds, saved activations, processor time.

The policies run interleaved on the same batch, so that other load on the machine affects all of them equally.
"""
import argparse
import random
import statistics
import time
import torch
from decoder import GRID_TOKENS, VLM
from dropping import Dropping, named
from pictures import Pictures
from tower import load_tower
from train_decoder import answer_loss
from turns import Tokenizer, pack


def visual_multiply_adds(dropping: Dropping, layers: int, tokens: int, hidden: int, intermediate: int) -> int:
    """The paper's count for one forward pass: J_s (4 n d^2 + 2 n^2 d + 3 n d m) over the stages, visual tokens only."""
    total = 0
    for depth, ratio in dropping.stages(layers):
        n = int(tokens * ratio)
        total += depth * (4 * n * hidden ** 2 + 2 * n * n * hidden + 3 * n * hidden * intermediate)
    return total


def packed_multiply_adds(dropping: Dropping, layers: int, tokens: int, prefix: int, lanes: int, length: int, hidden: int,
                         intermediate: int) -> int:
    """Multiply-adds of the layers for a packed image in one forward pass, text and prefix included."""
    total, text = 0, lanes * length
    for depth, ratio in dropping.stages(layers):
        visual = prefix + int(tokens * ratio)
        scores = visual * visual + text * visual + text * length
        total += depth * ((visual + text) * (4 * hidden ** 2 + 3 * hidden * intermediate) + 2 * scores * hidden)
    return total


def saved_bytes(step) -> int:
    """Bytes that autograd keeps for the backward pass of step(); each storage is counted once."""
    seen: dict[int, int] = {}

    def note(t: torch.Tensor) -> torch.Tensor:
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        loss = step()
    loss.backward()
    return sum(seen.values())


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--tower", required=True)
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--tokens", type=int, nargs="+", default=[128, GRID_TOKENS])
    p.add_argument("--pictures", type=int, default=4)
    p.add_argument("--lanes", type=int, default=4)
    p.add_argument("--lane-length", type=int, default=56)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--keep", type=float, nargs="+", default=[0.5], help="lambdas of pyramiddrop")
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer, pictures = Tokenizer(a.tokenizer), Pictures(load_tower(a.tower), 0)
    model = VLM(tokenizer.vocabulary, layers=32)
    policies = {"none": named("none", 32), "fastv": named("fastv", 32)}
    policies |= {f"pyramiddrop {k}": named("pyramiddrop", 32, k) for k in a.keep}
    print("| visual tokens | policy | visual GMAC | packed GMAC | saved MiB | step, CPU s (median, range) | vs. none |")
    print("| ---: | --- | ---: | ---: | ---: | --- | ---: |")
    for tokens in a.tokens:
        batch = pack(tokenizer, [pictures[i] for i in range(a.pictures)], random.Random(0), tokens, a.lanes, a.lane_length)

        def step(dropping: Dropping) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                logits, _ = model(batch, tokenizer.prefix, dropping)
            return answer_loss(logits.float(), batch, 1.0)[0]
        memory = {name: saved_bytes(lambda: step(policy)) for name, policy in policies.items()}
        times: dict[str, list[float]] = {name: [] for name in policies}
        for _ in range(a.rounds):
            for name, policy in policies.items():
                began = time.process_time()
                step(policy).backward()
                times[name].append(time.process_time() - began)
        for name, policy in policies.items():
            shape = (32, tokens), (128, 384)
            visual = a.pictures * visual_multiply_adds(policy, *shape[0], *shape[1])
            packed = a.pictures * packed_multiply_adds(policy, *shape[0], len(tokenizer.prefix), a.lanes, a.lane_length, *shape[1])
            t = times[name]
            share = statistics.median(t) / statistics.median(times["none"])
            print(f"| {tokens} | {name} | {visual / 1e9:.2f} | {packed / 1e9:.2f} | {memory[name] / 2 ** 20:.0f} "
                  f"| {statistics.median(t):.2f} ({min(t):.2f} to {max(t):.2f}) | {share:.2f} |")


if __name__ == "__main__":
    main()
