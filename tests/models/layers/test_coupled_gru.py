import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F

from blend_pl.models.layers.coupled_gru import CoupledGRUOutput, CoupledGRUWeights, run_controller_generator

BINS, TRIALS, CONTROL, GENERATOR, INPUTS = 5, 3, 2, 4, 2
SIZES = {
    "feedback": (3 * CONTROL, GENERATOR),
    "controller": (3 * CONTROL, CONTROL),
    "controller_bias": (3 * CONTROL,),
    "posterior": (2 * INPUTS, CONTROL),
    "posterior_bias": (2 * INPUTS,),
    "inferred": (3 * GENERATOR, INPUTS),
    "inferred_bias": (3 * GENERATOR,),
    "generator": (3 * GENERATOR, GENERATOR),
    "generator_bias": (3 * GENERATOR,),
}


def arguments(bins: int = BINS, seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    leaves = [(bins, TRIALS, 3 * CONTROL), (TRIALS, GENERATOR), (TRIALS, CONTROL), *SIZES.values()]
    heard, *rest = (torch.randn(size, dtype=torch.double, requires_grad=True) for size in leaves)
    noise = torch.randn(bins, TRIALS, INPUTS, dtype=torch.double)
    keep = (torch.rand(bins, TRIALS, GENERATOR, dtype=torch.double) > 0.3) / 0.7
    return [heard, noise, keep, *rest]


def loop(*given: Tensor) -> CoupledGRUOutput:
    return run_controller_generator(*given[:5], CoupledGRUWeights(*given[5:]))


def plain(
    heard: Tensor, noise: Tensor, keep: Tensor, state: Tensor, control: Tensor, *weights: Tensor
) -> CoupledGRUOutput:
    """Computes the same with `GRUCell` and autograd of torch."""
    w = CoupledGRUWeights(*weights)
    # A cell multiplies its input by a weight, but the input is already projected to the gates.
    gates = torch.eye(3 * CONTROL, dtype=torch.double), torch.zeros(3 * CONTROL, dtype=torch.double)
    states, posterior, samples = [state], [], []
    for t in range(len(heard)):
        x = heard[t] + (state * keep[t]) @ w.feedback.T
        control = torch.gru_cell(x, control, gates[0], w.controller, gates[1], w.controller_bias)
        posterior.append(F.linear(control, w.posterior, w.posterior_bias).unflatten(-1, (2, -1)))
        mean, log_variance = posterior[-1].unbind(1)
        samples.append(mean + (log_variance / 2).exp() * noise[t])
        state = torch.gru_cell(samples[-1], state, w.inferred, w.generator, w.inferred_bias, w.generator_bias)
        states.append(state)
    return CoupledGRUOutput(torch.stack(states), torch.stack(posterior), torch.stack(samples))


@pytest.mark.parametrize("bins", [1, BINS])
def test_output_and_gradients_equal_torch_cells(bins: int) -> None:
    given = arguments(bins)
    leaves = [x for x in given if x.requires_grad]
    gradients = []
    for path in (loop(*given), plain(*given)):
        cost = sum((part * torch.linspace(-1, 2, part.numel()).double().view_as(part)).sum() for part in path)
        gradients.append((*path, *torch.autograd.grad(cost, leaves)))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_equal_finite_differences() -> None:
    assert gradcheck(loop, arguments(3), fast_mode=True)


@pytest.mark.parametrize("part", range(3))
def test_gradients_with_single_used_output(part: int) -> None:
    given = arguments()
    leaves = [x for x in given if x.requires_grad]
    ours, theirs = (
        torch.autograd.grad(run_(*given)[part].square().sum(), leaves, allow_unused=True) for run_ in (loop, plain)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b)


def test_backward_can_run_twice() -> None:
    given = arguments()
    cost, leaf = loop(*given).states.square().sum(), given[0]
    first, second = (torch.autograd.grad(cost, leaf, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_loop_ignores_autocast() -> None:
    given = [x.float() for x in arguments()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loop(given[0].bfloat16(), *given[1:])
    assert mixed.states.dtype == torch.float32
    exact = loop(given[0].bfloat16().float(), *given[1:])
    assert torch.equal(mixed.states, exact.states)
