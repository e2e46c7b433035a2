"""Time and kernels of a training step of the backbones at MC_Maze's size, with 5 ms bins and 64 trials."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.lfads import NaiveLFADS
from measure import DEVICE, seconds
from torch.utils._python_dispatch import TorchDispatchMode

from blend_pl.models import LFADS, NDT, STNDT, Dims

pytestmark = pytest.mark.benchmark

MC_MAZE = Dims(channels=137, neurons=182, observed_bins=140, bins=180)
TRIALS = 64


class Kernels(TorchDispatchMode):
    """Counts operators that are not views: each is a kernel launch on a GPU, a call on a CPU."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def measure(function: Callable[[], object], times: int = 5) -> tuple[float, int]:
    """Returns the seconds of the fastest call, see `seconds`, and the number of kernels."""
    duration = seconds(function, times)
    with Kernels() as kernels:
        function()
    return duration, kernels.count


def counts() -> torch.Tensor:
    return torch.poisson(torch.full((TRIALS, 140, 137), 0.02, device=DEVICE))


@pytest.mark.parametrize("context", [0, 2], ids=["student", "teacher"])
def test_lfads_compared_with_loop_over_gru_cells(context: int) -> None:
    torch.manual_seed(0)
    model = LFADS(replace(MC_MAZE, context=context), dropout=0.0).to(DEVICE)
    naive = NaiveLFADS(model).to(DEVICE)
    observed, behavior = counts(), torch.randn(TRIALS, 180, 2, device=DEVICE) if context else None
    noise = torch.randn(TRIALS, 64, device=DEVICE), torch.randn(model.n_encoded_bins, TRIALS, 4, device=DEVICE)

    def step() -> None:
        encoding = model(observed, behavior)
        (encoding.prediction.exp().mean() + encoding.penalty.mean()).backward()

    def reference_step() -> None:
        rates, _, *inferred = naive(observed, behavior, *noise)
        (rates.exp().mean() + model.input_prior.kl_divergence(*inferred).mean()).backward()

    (duration, n_kernels), (reference_duration, n_reference_kernels) = measure(step), measure(reference_step)
    print(
        f"\nLFADS step on {DEVICE}: {duration:.3f} s, {n_kernels} kernels; "
        f"loop over GRU cells {reference_duration:.3f} s, {n_reference_kernels} kernels"
    )
    print(f"ratio: {reference_duration / duration:.1f} x the time, {n_reference_kernels / n_kernels:.1f} x the kernels")


def test_controller_and_generator() -> None:
    """Measures the loop over bins only, without the encoders, each of which is one GRU layer of torch."""
    torch.manual_seed(0)
    model = LFADS(replace(MC_MAZE, bins=140), dropout=0.0).to(DEVICE)
    naive = NaiveLFADS(model).to(DEVICE)
    encoded_inputs, initial_state = (
        torch.randn(size, device=DEVICE, requires_grad=True) for size in ((TRIALS, 140, 128), (TRIALS, 200))
    )
    keep_mask, noise = torch.ones(141, TRIALS, 200, device=DEVICE), torch.randn(140, TRIALS, 4, device=DEVICE)

    def step() -> None:
        sum(output.sum() for output in model._generate(encoded_inputs, initial_state, keep_mask)).backward()

    def reference_step() -> None:
        state, controller_state = initial_state, model.controller_state.repeat(TRIALS, 1)
        total = torch.zeros((), device=DEVICE)
        loadings = torch.nn.functional.normalize(model.factors.weight, dim=1)
        for t in range(140):
            controller_input = torch.cat([encoded_inputs[:, t], state @ loadings.T], 1)
            controller_state = naive.controller(controller_input, controller_state).clamp(-5, 5)
            mean, log_variance = model.input_posterior(controller_state).chunk(2, 1)
            sample = mean + (log_variance / 2).exp() * noise[t]
            state = naive.generator(sample, state).clamp(-5, 5)
            total = total + state.sum() + sample.sum()
        total.backward()

    (duration, n_kernels), (reference_duration, n_reference_kernels) = measure(step), measure(reference_step)
    print(
        f"\ncontroller and generator: {duration:.3f} s, {n_kernels} kernels; "
        f"loop over GRU cells {reference_duration:.3f} s, {n_reference_kernels} kernels"
    )
    print(f"ratio: {reference_duration / duration:.1f} x the time, {n_reference_kernels / n_kernels:.1f} x the kernels")


@pytest.mark.parametrize("kind", [NDT, STNDT, LFADS])
def test_step_of_each_backbone(kind: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    model, observed = kind(MC_MAZE).to(DEVICE), counts()

    def step() -> None:
        encoding = model(observed)
        loss = encoding.prediction.exp().mean()
        (loss if encoding.penalty is None else loss + encoding.penalty.mean()).backward()

    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"\n{kind.__name__} on {DEVICE}: {measure(step)[0]:.3f} s a step, {parameters} parameters")
