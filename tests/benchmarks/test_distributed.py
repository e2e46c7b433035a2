"""Cost of data parallelism: the all-reduce of MC_Maze's gradients compared with the step that computes them."""

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from measure import DEVICE, seconds

from blend_pl.models import NDT, Dims

pytestmark = pytest.mark.benchmark

MC_MAZE = Dims(channels=137, neurons=182, observed_bins=140, bins=180)
TRIALS = 64
CALLS = 50
LINKS = {"10 Gbit/s Ethernet": (1.25e9, 5e-5), "PCIe 4.0 x16": (2.5e10, 1e-5), "NVLink": (2e11, 1e-5)}
"""Bandwidth in bytes per second and latency in seconds, as advertised; replace them by your own."""


def ring_all_reduce_seconds(size: int, processes: int, bandwidth: float, latency: float) -> float:
    """Returns the seconds of a ring all-reduce; each process sends and receives 2 (n - 1) / n of the bytes."""
    return 2 * (processes - 1) * (size / processes / bandwidth + latency)


def _reduce(rank: int, processes: int, size: int, rendezvous: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=processes)
    gradients = torch.ones(size // 4)

    durations = []
    for _ in range(CALLS):
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(gradients)
        durations.append(time.perf_counter() - start)
    pipe.send(min(durations))
    dist.barrier()
    dist.destroy_process_group()


def all_reduce(processes: int, size: int, folder: Path) -> float:
    """Returns the seconds of an all-reduce of `size` bytes by gloo on this machine, of the slowest process."""
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    rendezvous = f"file://{folder / f'rendezvous{processes}'}"
    workers = [
        context.Process(target=_reduce, args=(rank, processes, size, rendezvous, send))
        for rank, (_, send) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    durations = [float(receive.recv()) for receive, _ in pipes]
    for worker in workers:
        worker.join()
    return max(durations)


def test_communication_compared_with_computation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = NDT(MC_MAZE)
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    measured = {processes: all_reduce(processes, size, tmp_path) for processes in (2, 3)}
    model.to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters())
    observed = torch.poisson(torch.full((TRIALS, 140, 137), 0.02, device=DEVICE))

    def step() -> None:
        optimizer.zero_grad()
        model(observed).prediction.exp().mean().backward()
        optimizer.step()

    computing = seconds(step, 5)
    print(f"\nNDT student of MC_Maze on {DEVICE}: a step of 64 trials {computing:.3f} s, gradients {size / 1e6:.2f} MB")
    for processes, duration in measured.items():
        print(f"gloo all-reduce by {processes} processes: {1e3 * duration:.2f} ms, ratio {duration / computing:.4f}")
    for name, (bandwidth, latency) in LINKS.items():
        costs = [f"{n}: {1e3 * ring_all_reduce_seconds(size, n, bandwidth, latency):.2f} ms" for n in (2, 8, 32)]
        print(f"by the formula, {name}: {', '.join(costs)}")
    assert measured[2] < computing, "communication takes longer than the step"
