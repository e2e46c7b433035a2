"""A training step of the backbones at MC_Maze's size, 5 ms bins, 64 trials."""

import time
from collections.abc import Callable

import pytest
import torch
from helpers.lfads import NaiveLFADS

from blend_pl.models import LFADS, NDT, STNDT, Dims

pytestmark = pytest.mark.benchmark

MC_MAZE = Dims(channels=137, neurons=182, observed_bins=140, bins=180)
TRIALS = 64


def seconds(function: Callable[[], object], times: int = 5) -> float:
    """The fastest of a few calls, after one to warm up."""
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def counts() -> torch.Tensor:
    return torch.poisson(torch.full((TRIALS, 140, 137), 0.02))


@pytest.mark.parametrize("context", [0, 2], ids=["student", "teacher"])
def test_lfads_beside_a_loop_over_cells(context: int) -> None:
    torch.manual_seed(0)
    dims = Dims(MC_MAZE.channels, MC_MAZE.neurons, MC_MAZE.observed_bins, MC_MAZE.bins, context)
    model = LFADS(dims, dropout=0.0)
    naive = NaiveLFADS(model)
    observed, behavior = counts(), torch.randn(TRIALS, 180, 2) if context else None

    def ours() -> None:
        encoding = model(observed, behavior)
        (encoding.prediction.exp().mean() + encoding.penalty.mean()).backward()

    def theirs() -> None:
        noise = torch.randn(TRIALS, 64), torch.randn(model.encoded, TRIALS, 4)
        rates, _, *inferred = naive(observed, behavior, *noise)
        (rates.exp().mean() + model.input_prior.divergence(*inferred).mean()).backward()

    step, reference = seconds(ours), seconds(theirs)
    with torch.no_grad():
        forward, forward_reference = (
            seconds(lambda: model(observed, behavior)),
            seconds(lambda: naive(observed, behavior, torch.zeros(TRIALS, 64), torch.zeros(model.encoded, TRIALS, 4))),
        )
    print(f"\nstep: ours {step:.2f} s, loop over cells {reference:.2f} s; ratio {reference / step:.1f}")
    print(f"forward alone: {forward:.2f} s, {forward_reference:.2f} s; ratio {forward_reference / forward:.1f}")


@pytest.mark.parametrize("kind", [NDT, STNDT, LFADS])
def test_a_step_of_each_backbone(kind: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    model, observed = kind(MC_MAZE), counts()

    def step() -> None:
        encoding = model(observed)
        loss = encoding.prediction.exp().mean()
        (loss if encoding.penalty is None else loss + encoding.penalty.mean()).backward()

    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"\n{kind.__name__}: {seconds(step):.2f} s a step, {parameters} parameters")
