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

DIMS = Dims(3, 5, 5, 7)
REACHES = [(1, 2), (-1, -1), (0, 4)]


def networks(*changes: dict[str, Any], dropout: float = 0.0) -> list[NDT]:
    """One for each of some changes, in training mode."""
    rates = {"dropout": dropout, "dropout_embedding": dropout, "dropout_rates": dropout}
    torch.manual_seed(0)
    return [NDT(DIMS, **{"num_layers": 2, "dim_feedforward": 8, **rates, **change}) for change in changes]


def predict(network: nn.Module, observed: Tensor) -> Tensor:
    encoding: Encoding = network(observed)
    return encoding.prediction


@pytest.fixture
def observed() -> Tensor:
    return torch.stack([batch_of(session_of(trials=6 + k)).observed[:6] for k in range(3)])


def test_members_are_what_they_are_alone(observed: Tensor) -> None:
    members = networks(*({"context_forward": ahead, "context_backward": back} for ahead, back in REACHES))
    alone = [predict(network, x) for network, x in zip(members, observed, strict=True)]
    for prediction in alone:
        prediction.square().sum().backward()
    gradients = [[p.grad.clone() for p in network.parameters() if p.grad is not None] for network in members]
    stack = ModuleStack(members)
    together = stack(predict, observed)
    torch.testing.assert_close(together, torch.stack(alone))
    together.square().sum().backward()
    stack.scatter_gradients(stack.flat_gradients())
    for network, expected in zip(members, gradients, strict=True):
        found = [p.grad for p in network.parameters() if p.grad is not None]
        torch.testing.assert_close(found, expected)


def test_all_lies_on_the_device_of_the_members(observed: Tensor) -> None:
    members = [network.to("meta") for network in networks({}, {}, dropout=0.5)]
    assert ModuleStack(members)(predict, observed[:2].to("meta")).device.type == "meta"


def test_an_optimizer_of_a_member_trains_the_stack(observed: Tensor) -> None:
    members = networks({}, {}, {})
    stack = ModuleStack(members)
    before = stack(predict, observed)
    before.square().sum().backward()
    stack.scatter_gradients(stack.flat_gradients())
    torch.optim.SGD(members[1].parameters(), lr=0.1).step()
    after = stack(predict, observed)
    changed = (after - before).abs().amax((1, 2, 3)) > 1e-4
    assert changed.tolist() == [False, True, False]
    torch.testing.assert_close(after[1], predict(members[1], observed[1]))
    stack.zero_grad()
    assert all(parameter.grad is None for parameter in stack.parameters.values())


@given(st.floats(0, 0.95))
def test_dropout(p: float) -> None:
    torch.manual_seed(0)
    dropped = VmapDropout(p)(torch.ones(40_000))
    kept = dropped != 0
    assert abs(float(kept.float().mean()) - (1 - p)) < 0.02
    torch.testing.assert_close(dropped[kept], torch.full((int(kept.sum()),), 1 / (1 - p)))
    ones = torch.ones(5)
    assert VmapDropout(p).eval()(ones) is ones


def test_dropout_of_all() -> None:
    assert not VmapDropout(1.0)(torch.ones(5)).any()


def test_each_member_has_its_own_dropout(observed: Tensor) -> None:
    members = networks({}, {"dropout": 0.5}, {"dropout": 0.9})
    same = observed[:1].expand_as(observed)
    torch.manual_seed(1)
    first, second = (ModuleStack(members)(predict, same) for _ in range(2))
    spread = (first - second).abs().mean((1, 2, 3))
    assert spread[0] == 0
    assert 0 < spread[1] < spread[2]


def test_members_draw_different_numbers(observed: Tensor) -> None:
    members = networks({}, {}, dropout=0.5)
    members[1].load_state_dict(members[0].state_dict())
    first, second = ModuleStack(members)(predict, observed[:1].expand(2, *observed.shape[1:]))
    assert (first - second).abs().max() > 1e-3


def test_what_does_not_train_stays_in_evaluation_mode(observed: Tensor) -> None:
    members = [network.eval() for network in networks({}, {}, {}, dropout=0.5)]
    torch.testing.assert_close(
        ModuleStack(members)(predict, observed),
        torch.stack([predict(network, x) for network, x in zip(members, observed, strict=True)]),
    )


class Scaled(nn.Module):
    """Has a number, a function and a buffer of its own."""

    def __init__(self, factor: float = 1.0, function: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.factor, self.function = factor, function
        self.register_buffer("shift", torch.zeros(()))
        self.linear = nn.Linear(3, 3)


class Holding(nn.Module):
    """Has whatever it is given."""

    def __init__(self, *held: Any) -> None:
        super().__init__()
        self.held = held


def closure(power: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x**power


def keyword(power: float) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor, *, by: float = power) -> Tensor:
        return x**by

    return function


def tied(module: nn.Sequential) -> nn.Module:
    """The same, its two layers being one in their weights."""
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
        (Holding(closure(1), closure(2)), Holding(closure(1), closure(3))),
        (Holding(keyword(2)), Holding(keyword(3))),
        (Holding(SQUARE), Holding(CUBE)),
        (Holding(torch.zeros(2)), Holding(torch.ones(2))),
        (Holding({1, 2}), Holding({1, 3})),
        (Holding(slice(1)), Holding(slice(2))),
        (Holding(np.zeros(2)), Holding(np.ones(2))),
        (tied(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))),
        (nn.Linear(3, 2), nn.Linear(3, 3)),
        # It holds its weights beside its parameters too, where no member's could be exchanged for another's.
        (nn.GRU(2, 3), nn.GRU(2, 3)),
        (nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False)),
        (nn.Linear(3, 3), nn.Bilinear(3, 3, 3)),
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU(), nn.ReLU())),
        networks({"num_layers": 1}, {"num_layers": 2}),
        networks({"num_heads": 1}, {"num_heads": 2}),
    ],
)
def test_other_architectures(first: nn.Module, second: nn.Module) -> None:
    assert describe_architecture(first) != describe_architecture(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Scaled(), Scaled()),
        (Scaled(function=closure(2)), Scaled(function=closure(2))),
        (Holding(torch.ones(2), {1, 2}, np.ones(2), SQUARE), Holding(torch.ones(2), {1, 2}, np.ones(2), SQUARE)),
        networks({}, {"dropout": 0.3, "dropout_rates": 0.1}),
        networks({}, {"context_forward": 1, "context_backward": -1}),
    ],
)
def test_one_architecture(first: nn.Module, second: nn.Module) -> None:
    assert describe_architecture(first) == describe_architecture(second)


def test_attributes_that_do_not_matter() -> None:
    first, second = Scaled(1.0), Scaled(2.0)
    assert describe_architecture(first, {"factor"}) == describe_architecture(second, {"factor"})


def test_buffers_are_the_members_own() -> None:
    members = [Scaled(), Scaled()]
    stack = ModuleStack(members)
    members[1].shift.fill_(3.0)  # type: ignore[operator]
    assert stack(lambda module, x: x + module.shift, torch.zeros(2)).tolist() == [0.0, 3.0]
