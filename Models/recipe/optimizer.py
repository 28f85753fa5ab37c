"""Muon for hidden matrices, AdamW for the rest, and the learning rate schedule."""
import torch
import torch.distributed as dist

MOMENTUM = 0.95


def orthogonalise(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Approximately the nearest orthogonal matrices to g [n, rows, columns], by Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True).to(x.dtype) + 1e-7)
    for _ in range(steps):
        q = x @ x.mT
        x = a * x + (b * q + c * (q @ q)) @ x
    return (x.mT if tall else x).float()


def schedule(step: int, steps: int, warm: int = 40, decay: float = 0.45) -> float:
    """Factor of the learning rate: linear warm-up, constant, linear decay over the last `decay` of the steps."""
    return min(1.0, (step + 1) / warm) * max(0.02, min(1.0, (1 - step / steps) / decay))


class Optimizer:
    """Muon on the hidden matrices (work split over the processes), AdamW on everything else."""

    def __init__(self, hidden, others, muon_rate: float, adam_rate: float, rank: int, world: int, slow=(),
                 weight_decay: float = 0.01):
        self.hidden, self.rank, self.world = hidden, rank, world
        self.muon_rate, self.adam_rate, self.weight_decay = muon_rate, adam_rate, weight_decay
        slow_ids = {id(p) for p in slow}                        # structured initialisation: a tenth of the rate
        self.adam = torch.optim.AdamW(
            [dict(params=[p for p in others if id(p) not in slow_ids], factor=1.0),
             dict(params=[p for p in others if id(p) in slow_ids], factor=0.1, weight_decay=0.0)],
            lr=adam_rate, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
        self.momenta = [torch.zeros_like(p) for p in hidden]
        self.update = torch.zeros(max(1, sum(p.numel() for p in hidden)))
        self.groups: dict[tuple[int, ...], list[int]] = {}
        for i, p in enumerate(hidden):
            self.groups.setdefault(tuple(p.shape), []).append(i)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        for g in self.adam.param_groups:
            g["lr"] = self.adam_rate * factor * g["factor"]
        self.adam.step()
        pieces = self.update.split([p.numel() for p in self.hidden]) if self.hidden else []
        self.update.zero_()
        for shape, members in self.groups.items():
            for i in members:
                self.momenta[i].mul_(MOMENTUM).add_(self.hidden[i].grad)
            mine = members[self.rank::self.world]
            if mine:
                u = orthogonalise(torch.stack([self.hidden[i].grad + MOMENTUM * self.momenta[i] for i in mine]))
                u *= max(1.0, shape[0] / shape[1]) ** 0.5
                for i, direction in zip(mine, u):
                    pieces[i].copy_(direction.reshape(-1))
        if self.world > 1:
            dist.all_reduce(self.update)
        rate = self.muon_rate * factor
        for p, piece in zip(self.hidden, pieces):
            p.mul_(1 - rate * self.weight_decay).add_(piece.view_as(p), alpha=-rate)

    def state_dict(self) -> dict:
        return dict(adam=self.adam.state_dict(), momenta=self.momenta)

    def load_state_dict(self, state: dict) -> None:
        self.adam.load_state_dict(state["adam"])
        for m, saved in zip(self.momenta, state["momenta"]):
            m.copy_(saved)
