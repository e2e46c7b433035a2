"""Child processes that compute a mean over ranks."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from blend_pl.utils.distributed import distributed_mean

WORLD = 2
SHARES = ((0, 5), (5, 7))
"""Range of entries of each rank; unequal, so that a mean of the ranks' means is wrong."""


def entries() -> torch.Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


def loss(linear: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    values = linear(inputs).square()
    return distributed_mean(values.sum(), values.numel())


def make_linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(3, 2)


def rank_process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    model = nn.parallel.DistributedDataParallel(make_linear())
    start, stop = SHARES[rank]
    mean = loss(model, entries()[start:stop])  # type: ignore[arg-type]
    mean.backward()
    total = mean.detach().clone()
    dist.all_reduce(total)
    empty = distributed_mean(torch.tensor(2.0 * rank), rank * 4)
    dist.all_reduce(empty)
    gradients = [parameter.grad for parameter in model.parameters()]
    torch.save({"mean": total / WORLD, "empty": empty / WORLD, "gradients": gradients}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
