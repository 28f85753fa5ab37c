"""Data parallel on CPU: one single-threaded process per core, as two OpenMP threads stall whenever a core is busy."""
import os
import torch
import torch.distributed as dist


def join() -> tuple[int, int]:
    """Joins the process group of torch.distributed.run; returns rank and number of processes."""
    torch.set_num_threads(1)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("gloo")
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class FlatGradients:
    """Averages all gradients over the processes through one flat buffer."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.buffer = torch.zeros(sum(p.numel() for p in parameters))

    def average(self, world: int) -> torch.Tensor:
        """Replaces every .grad by the mean over the processes; returns the global norm."""
        pieces = self.buffer.split([p.numel() for p in self.parameters])
        for p, piece in zip(self.parameters, pieces):
            piece.zero_() if p.grad is None else piece.copy_(p.grad.reshape(-1))
        if world > 1:
            dist.all_reduce(self.buffer)
            self.buffer /= world
        for p, piece in zip(self.parameters, pieces):
            p.grad = piece.view_as(p)
        return self.buffer.norm()
