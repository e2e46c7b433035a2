import socket
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from blend_pl.reduction import global_mean

WORLD = 2
SHARES = ((0, 5), (5, 7))
"""Entries of each rank: unequal, so that a mean of means would be wrong."""


def entries() -> torch.Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


def loss(linear: nn.Linear, part: torch.Tensor) -> torch.Tensor:
    values = linear(part).square()
    return global_mean(values.sum(), values.numel())


def make_linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(3, 2)


def test_one_process_takes_the_plain_mean() -> None:
    values = torch.randn(11)
    torch.testing.assert_close(global_mean(values.sum(), 11), values.mean())
    torch.testing.assert_close(global_mean(values.sum(), torch.tensor(11)), values.mean())


def test_nothing_to_average_is_zero_and_differentiable() -> None:
    values = torch.ones(3, requires_grad=True)
    mean = global_mean(values[:0].sum(), 0)
    mean.backward()
    assert mean.item() == 0
    assert values.grad is not None
    assert not values.grad.any()


def rank_process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    model = nn.parallel.DistributedDataParallel(make_linear())
    start, stop = SHARES[rank]
    mean = loss(model, entries()[start:stop])  # type: ignore[arg-type]
    mean.backward()
    shared = mean.detach().clone()
    dist.all_reduce(shared)
    empty = global_mean(torch.tensor(2.0 * rank), rank * 4)
    dist.all_reduce(empty)
    gradients = [parameter.grad for parameter in model.parameters()]
    torch.save({"mean": shared / WORLD, "empty": empty / WORLD, "gradients": gradients}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked, for each import of torch in a new process takes seconds.
    mp.start_processes(rank_process, (port, str(tmp_path)), WORLD, start_method="fork")
    linear = make_linear()
    expected = loss(linear, entries())
    expected.backward()
    for rank in range(WORLD):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["mean"], expected.detach())
        # The only rank with entries has sum 2 over 4 of them.
        torch.testing.assert_close(found["empty"], torch.tensor(0.5))
        for gradient, parameter in zip(found["gradients"], linear.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad)
