from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler

from blend_pl.multirun.optimizers import StackedOptimizer
from blend_pl.multirun.stacking import ModuleStack

Kind = partial[Optimizer]
ADAMS = [
    partial(AdamW, lr=0.1),
    partial(AdamW, lr=0.01, betas=(0.8, 0.9), weight_decay=0.5),
    partial(AdamW, lr=0.3, eps=0.1, weight_decay=0.0),
]
OTHERS = [
    [partial(SGD, lr=0.1), partial(SGD, lr=0.2)],
    [partial(SGD, lr=0.1), partial(AdamW, lr=0.2)],
    [partial(AdamW, lr=0.1), partial(Adam, lr=0.1)],
    [partial(AdamW, lr=0.1), partial(AdamW, lr=0.1, amsgrad=True)],
    [partial(AdamW, lr=0.1, maximize=True), partial(AdamW, lr=0.1)],
]


class Network(nn.Module):
    """Parameters of several shapes, one of which has a gradient only if it is used."""

    def __init__(self, seed: int, idle: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.idle = idle
        self.scale, self.unused = nn.Parameter(torch.randn(())), nn.Parameter(torch.ones(3))
        self.linear = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x) * self.scale
        return (y if self.idle else y + self.unused.sum()).square().sum()


def pair(kind: Kind, network: nn.Module) -> tuple[Optimizer, LRScheduler]:
    optimizer = kind(network.parameters())
    return optimizer, ExponentialLR(optimizer, 0.5)


class Several:
    """Networks of some seeds with an optimiser of each kind, trained together."""

    def __init__(self, kinds: Sequence[Kind], idle: bool = False) -> None:
        self.networks = [Network(seed, idle) for seed in range(len(kinds))]
        self.optimizer = StackedOptimizer([pair(kind, net) for kind, net in zip(kinds, self.networks, strict=True)])
        self.train(range(len(kinds)))

    def train(self, active: Sequence[int]) -> None:
        self.stack = ModuleStack([self.networks[index] for index in active])
        self.optimizer.set_active(active, self.stack)

    def step(self, x: torch.Tensor) -> None:
        def closure() -> torch.Tensor:
            self.stack.zero_grad()
            loss: torch.Tensor = self.stack(
                lambda network, x: network(x), x.expand(len(self.stack.replica_parameters), *x.shape)
            )
            loss.sum().backward()
            self.optimizer.gradients = self.stack.flat_gradients()
            return loss

        assert len(self.optimizer.step(closure)) == len(self.stack.replica_parameters)

    def weights(self) -> list[dict[str, Any]]:
        return [deepcopy(network.state_dict()) for network in self.networks]


def alone(kind: Kind, seed: int, inputs: Sequence[torch.Tensor], idle: bool = False) -> dict[str, Any]:
    network = Network(seed, idle)
    optimizer, schedule = pair(kind, network)
    for x in inputs:
        optimizer.zero_grad()
        network(x).backward()
        optimizer.step()
        schedule.step()
    return network.state_dict()


@pytest.fixture
def inputs() -> list[torch.Tensor]:
    return [*torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))]


@pytest.fixture(autouse=True)
def _double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kinds", [ADAMS, [partial(Adam, lr=0.1, weight_decay=w) for w in (0.0, 0.4)], *OTHERS])
@pytest.mark.parametrize("idle", [False, True])
def test_each_steps_as_it_would_alone(kinds: list[Kind], idle: bool, inputs: list[torch.Tensor]) -> None:
    several = Several(kinds, idle)
    for x in inputs:
        several.step(x)
    assert (several.optimizer.adam is not None) == (kinds not in OTHERS and not idle)
    for seed, (kind, found) in enumerate(zip(kinds, several.weights(), strict=True)):
        torch.testing.assert_close(found, alone(kind, seed, inputs, idle), rtol=1e-9, atol=1e-12)
    rates = [group["lr"] for group in several.optimizer.param_groups]
    assert rates == [kind.keywords["lr"] / 2 ** len(inputs) for kind in kinds]


@pytest.mark.parametrize("kinds", [ADAMS[:2], OTHERS[0]])
def test_who_has_stopped_does_not_move(kinds: list[Kind], inputs: list[torch.Tensor]) -> None:
    several = Several(kinds)
    several.step(inputs[0])
    before = several.weights()
    several.train([1])
    several.step(inputs[1])
    after = several.weights()
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    torch.testing.assert_close(after[1], alone(kinds[1], 1, inputs[:2]), rtol=1e-9, atol=1e-12)
    rates = [group["lr"] for group in several.optimizer.param_groups]
    assert rates == [kind.keywords["lr"] / 2**steps for kind, steps in zip(kinds, (1, 2), strict=True)]


@pytest.mark.parametrize("kinds", [ADAMS, OTHERS[1]])
def test_goes_on_where_it_was(kinds: list[Kind], inputs: list[torch.Tensor]) -> None:
    several, resumed = Several(kinds), Several(kinds)
    several.step(inputs[0])
    state, weights = deepcopy(several.optimizer.state_dict()), several.weights()
    several.step(inputs[1])
    for network, own in zip(resumed.networks, weights, strict=True):
        network.load_state_dict(own)
    resumed.optimizer.load_state_dict(state)
    resumed.train(range(len(kinds)))
    resumed.step(inputs[1])
    torch.testing.assert_close(resumed.weights(), several.weights(), rtol=0, atol=0)


def test_one_whose_parameters_find_a_gradient_later(inputs: list[torch.Tensor]) -> None:
    several = Several(ADAMS[:2])
    several.step(inputs[0])
    several.stack.template.idle = True  # type: ignore[assignment]
    several.step(inputs[1])
    assert several.optimizer.adam is None
    expected = Network(0)
    optimizer, schedule = pair(ADAMS[0], expected)
    for x, expected.idle in zip(inputs[:2], (False, True), strict=True):
        optimizer.zero_grad()
        expected(x).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(several.weights()[0], expected.state_dict(), rtol=1e-9, atol=1e-12)
    # By now they have not made as many steps with every parameter.
    several.train([0, 1])
    assert several.optimizer.adam is None


def test_a_number_that_is_none_stays_with_its_model(inputs: list[torch.Tensor]) -> None:
    several = Several(ADAMS[:2])
    with torch.no_grad():
        several.networks[0].linear.weight.fill_(torch.nan)
    several.step(inputs[0])
    assert several.networks[0].linear.weight.isnan().all()
    torch.testing.assert_close(several.weights()[1], alone(ADAMS[1], 1, inputs[:1]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize("limit", [1e-3, 5.0, 1e6])
def test_gradients_are_clipped_as_those_of_each_alone(by_value: bool, limit: float, inputs: list[torch.Tensor]) -> None:
    several = Several(ADAMS)
    several.step(inputs[0])
    clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
    several.stack.scatter_gradients(several.optimizer.gradients.clone())
    for network in several.networks:
        clip(network.parameters(), limit)
    expected = [[parameter.grad for parameter in network.parameters()] for network in several.networks]
    several.optimizer.clip(limit, by_value)
    several.stack.scatter_gradients(several.optimizer.gradients)
    found = [[parameter.grad for parameter in network.parameters()] for network in several.networks]
    torch.testing.assert_close(found, expected)
