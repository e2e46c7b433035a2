import socket
from pathlib import Path

import torch
import torch.multiprocessing as mp
from helpers.reducing import WORLD, entries, loss, make_linear, rank_process

from blend_pl.utils.distributed import distributed_mean


def test_one_process_takes_the_plain_mean() -> None:
    values = torch.randn(11)
    torch.testing.assert_close(distributed_mean(values.sum(), 11), values.mean())
    torch.testing.assert_close(distributed_mean(values.sum(), torch.tensor(11)), values.mean())


def test_nothing_to_average_is_zero_and_differentiable() -> None:
    values = torch.ones(3, requires_grad=True)
    mean = distributed_mean(values[:0].sum(), 0)
    mean.backward()
    assert mean.item() == 0
    assert values.grad is not None
    assert not values.grad.any()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Not forked: threads that other tests have left behind would hang.
    mp.start_processes(rank_process, (port, str(tmp_path)), WORLD, start_method="spawn")
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
