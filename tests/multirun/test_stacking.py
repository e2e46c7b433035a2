"""Tests of stacked modules and of the comparison of architectures."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers.sessions import batch_of, session_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from blend_pl.models import NDT
from blend_pl.models.base import Dims, Encoding
from blend_pl.multirun.stacking import ModuleStack, VmapDropout, describe_architecture

pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7),
    reason="torch.func.vmap of torch 2.6 cannot stack these networks; multirun then trains one after another",
)
DIMS = Dims(3, 5, 5, 7)
WINDOWS = [(1, 2), (-1, -1), (0, 4)]


def make_networks(*changes: dict[str, Any], dropout: float = 0.0) -> list[NDT]:
    """Creates one network per mapping of changed arguments, in training mode."""
    dropouts = {"dropout": dropout, "dropout_embedding": dropout, "dropout_rates": dropout}
    torch.manual_seed(0)
    return [NDT(DIMS, **{"num_layers": 2, "dim_feedforward": 8, **dropouts, **change}) for change in changes]


def predict(network: nn.Module, observed: Tensor) -> Tensor:
    encoding: Encoding = network(observed)
    return encoding.prediction


@pytest.fixture
def observed() -> Tensor:
    return torch.stack([batch_of(session_of(trials=6 + k)).observed[:6] for k in range(3)])


def test_outputs_and_gradients_equal_those_of_each_module(observed: Tensor) -> None:
    networks = make_networks(*({"context_forward": ahead, "context_backward": back} for ahead, back in WINDOWS))
    predictions = [predict(network, x) for network, x in zip(networks, observed, strict=True)]
    for prediction in predictions:
        prediction.square().sum().backward()
    gradients = [[p.grad.clone() for p in network.parameters() if p.grad is not None] for network in networks]
    stack = ModuleStack(networks)
    stacked_predictions = stack(predict, observed)
    torch.testing.assert_close(stacked_predictions, torch.stack(predictions))
    stacked_predictions.square().sum().backward()
    stack.scatter_gradients(stack.flat_gradients())
    for network, expected in zip(networks, gradients, strict=True):
        scattered = [p.grad for p in network.parameters() if p.grad is not None]
        torch.testing.assert_close(scattered, expected)


def test_stack_is_on_the_device_of_its_modules(observed: Tensor) -> None:
    networks = [network.to("meta") for network in make_networks({}, {}, dropout=0.5)]
    assert ModuleStack(networks)(predict, observed[:2].to("meta")).device.type == "meta"


def test_optimizer_of_one_module_updates_the_stack(observed: Tensor) -> None:
    networks = make_networks({}, {}, {})
    stack = ModuleStack(networks)
    before = stack(predict, observed)
    before.square().sum().backward()
    stack.scatter_gradients(stack.flat_gradients())
    torch.optim.SGD(networks[1].parameters(), lr=0.1).step()
    after = stack(predict, observed)
    changed = (after - before).abs().amax((1, 2, 3)) > 1e-4
    assert changed.tolist() == [False, True, False]
    torch.testing.assert_close(after[1], predict(networks[1], observed[1]))
    stack.zero_grad()
    assert all(parameter.grad is None for parameter in stack.parameters.values())


@given(st.floats(0, 0.95))
def test_vmap_dropout(p: float) -> None:
    torch.manual_seed(0)
    dropped = VmapDropout(p)(torch.ones(40_000))
    is_kept = dropped != 0
    assert abs(float(is_kept.float().mean()) - (1 - p)) < 0.02
    torch.testing.assert_close(dropped[is_kept], torch.full((int(is_kept.sum()),), 1 / (1 - p)))
    ones = torch.ones(5)
    assert VmapDropout(p).eval()(ones) is ones


def test_vmap_dropout_with_probability_one_returns_zeros() -> None:
    assert not VmapDropout(1.0)(torch.ones(5)).any()


def test_dropout_probability_differs_between_modules(observed: Tensor) -> None:
    networks = make_networks({}, {"dropout": 0.5}, {"dropout": 0.9})
    same = observed[:1].expand_as(observed)
    torch.manual_seed(1)
    first, second = (ModuleStack(networks)(predict, same) for _ in range(2))
    spread = (first - second).abs().mean((1, 2, 3))
    assert spread[0] == 0
    assert 0 < spread[1] < spread[2]


def test_random_numbers_differ_between_modules(observed: Tensor) -> None:
    networks = make_networks({}, {}, dropout=0.5)
    networks[1].load_state_dict(networks[0].state_dict())
    first, second = ModuleStack(networks)(predict, observed[:1].expand(2, *observed.shape[1:]))
    assert (first - second).abs().max() > 1e-3


def test_eval_mode_is_kept(observed: Tensor) -> None:
    networks = [network.eval() for network in make_networks({}, {}, {}, dropout=0.5)]
    torch.testing.assert_close(
        ModuleStack(networks)(predict, observed),
        torch.stack([predict(network, x) for network, x in zip(networks, observed, strict=True)]),
    )


class Scaled(nn.Module):
    """Has a number, a function and a buffer as attributes."""

    def __init__(self, factor: float = 1.0, function: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.factor, self.function = factor, function
        self.register_buffer("shift", torch.zeros(()))
        self.linear = nn.Linear(3, 3)


class Holder(nn.Module):
    """Has arbitrary objects as attributes."""

    def __init__(self, *objects: Any) -> None:
        super().__init__()
        self.objects = objects


def closure(power: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x**power


def keyword(power: float) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor, *, by: float = power) -> Tensor:
        return x**by

    return function


def tied(module: nn.Sequential) -> nn.Module:
    """Ties the weights of the first two layers."""
    module[1].weight = module[0].weight
    return module


SQUARE, CUBE = (lambda x: x**2), (lambda x: x**3)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Scaled(), Scaled(2.0)),
        (Scaled(), Scaled(function=torch.tanh)),
        (Scaled(function=closure(2)), Scaled(function=closure(3))),
        (Scaled(function=partial(torch.clamp, min=0.0)), Scaled(function=partial(torch.clamp, min=0.5))),
        (Holder(closure(1), closure(2)), Holder(closure(1), closure(3))),
        (Holder(keyword(2)), Holder(keyword(3))),
        (Holder(SQUARE), Holder(CUBE)),
        (Holder(torch.zeros(2)), Holder(torch.ones(2))),
        (Holder({1, 2}), Holder({1, 3})),
        (Holder(slice(1)), Holder(slice(2))),
        (Holder(np.zeros(2)), Holder(np.ones(2))),
        (tied(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))),
        (nn.Linear(3, 2), nn.Linear(3, 3)),
        # A GRU also keeps its weights in a list, where `functional_call` cannot replace them.
        (nn.GRU(2, 3), nn.GRU(2, 3)),
        (nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False)),
        (nn.Linear(3, 3), nn.Bilinear(3, 3, 3)),
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU(), nn.ReLU())),
        make_networks({"num_layers": 1}, {"num_layers": 2}),
        make_networks({"num_heads": 1}, {"num_heads": 2}),
    ],
)
def test_different_modules_have_different_descriptions(first: nn.Module, second: nn.Module) -> None:
    assert describe_architecture(first) != describe_architecture(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Scaled(), Scaled()),
        (Scaled(function=closure(2)), Scaled(function=closure(2))),
        (Holder(torch.ones(2), {1, 2}, np.ones(2), SQUARE), Holder(torch.ones(2), {1, 2}, np.ones(2), SQUARE)),
        make_networks({}, {"dropout": 0.3, "dropout_rates": 0.1}),
        make_networks({}, {"context_forward": 1, "context_backward": -1}),
    ],
)
def test_stackable_modules_have_equal_descriptions(first: nn.Module, second: nn.Module) -> None:
    assert describe_architecture(first) == describe_architecture(second)


def test_ignored_attributes_are_not_described() -> None:
    first, second = Scaled(1.0), Scaled(2.0)
    assert describe_architecture(first, {"factor"}) == describe_architecture(second, {"factor"})


def test_each_module_keeps_its_buffers() -> None:
    modules = [Scaled(), Scaled()]
    stack = ModuleStack(modules)
    modules[1].shift.fill_(3.0)  # type: ignore[operator]
    assert stack(lambda module, x: x + module.shift, torch.zeros(2)).tolist() == [0.0, 3.0]
