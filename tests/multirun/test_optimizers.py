"""Tests of the stacked optimizer and of StackedAdam."""

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

OptimizerFactory = partial[Optimizer]
ADAMS = [
    partial(AdamW, lr=0.1),
    partial(AdamW, lr=0.01, betas=(0.8, 0.9), weight_decay=0.5),
    partial(AdamW, lr=0.3, eps=0.1, weight_decay=0.0),
]
UNSUPPORTED = [
    [partial(SGD, lr=0.1), partial(SGD, lr=0.2)],
    [partial(SGD, lr=0.1), partial(AdamW, lr=0.2)],
    [partial(AdamW, lr=0.1), partial(Adam, lr=0.1)],
    [partial(AdamW, lr=0.1), partial(AdamW, lr=0.1, amsgrad=True)],
    [partial(AdamW, lr=0.1, maximize=True), partial(AdamW, lr=0.1)],
]


class Network(nn.Module):
    """Has parameters of training shapes; with `idle`, one of them gets no gradient."""

    def __init__(self, seed: int, idle: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.idle = idle
        self.scale, self.unused = nn.Parameter(torch.randn(())), nn.Parameter(torch.ones(3))
        self.linear = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x) * self.scale
        return (y if self.idle else y + self.unused.sum()).square().sum()


def optimizer_and_schedule(factory: OptimizerFactory, network: nn.Module) -> tuple[Optimizer, LRScheduler]:
    optimizer = factory(network.parameters())
    return optimizer, ExponentialLR(optimizer, 0.5)


class StackedTraining:
    """Trains one network per optimizer factory in a stack; their seeds are 0, 1, ..."""

    def __init__(self, factories: Sequence[OptimizerFactory], idle: bool = False) -> None:
        self.networks = [Network(seed, idle) for seed in range(len(factories))]
        pairs = zip(factories, self.networks, strict=True)
        self.optimizer = StackedOptimizer([optimizer_and_schedule(factory, network) for factory, network in pairs])
        self.set_active(range(len(factories)))

    def set_active(self, active: Sequence[int]) -> None:
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


def train_single(
    factory: OptimizerFactory, seed: int, inputs: Sequence[torch.Tensor], idle: bool = False
) -> dict[str, Any]:
    network = Network(seed, idle)
    optimizer, schedule = optimizer_and_schedule(factory, network)
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
def _float64() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "factories", [ADAMS, [partial(Adam, lr=0.1, weight_decay=w) for w in (0.0, 0.4)], *UNSUPPORTED]
)
@pytest.mark.parametrize("idle", [False, True])
def test_steps_equal_those_of_single_optimizers(
    factories: list[OptimizerFactory], idle: bool, inputs: list[torch.Tensor]
) -> None:
    training = StackedTraining(factories, idle)
    for x in inputs:
        training.step(x)
    assert (training.optimizer.adam is not None) == (factories not in UNSUPPORTED and not idle)
    for seed, (factory, weights) in enumerate(zip(factories, training.weights(), strict=True)):
        torch.testing.assert_close(weights, train_single(factory, seed, inputs, idle), rtol=1e-9, atol=1e-12)
    learning_rates = [group["lr"] for group in training.optimizer.param_groups]
    assert learning_rates == [factory.keywords["lr"] / 2 ** len(inputs) for factory in factories]


@pytest.mark.parametrize("factories", [ADAMS[:2], UNSUPPORTED[0]])
def test_inactive_replica_is_not_updated(factories: list[OptimizerFactory], inputs: list[torch.Tensor]) -> None:
    training = StackedTraining(factories)
    training.step(inputs[0])
    before = training.weights()
    training.set_active([1])
    training.step(inputs[1])
    after = training.weights()
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    torch.testing.assert_close(after[1], train_single(factories[1], 1, inputs[:2]), rtol=1e-9, atol=1e-12)
    learning_rates = [group["lr"] for group in training.optimizer.param_groups]
    expected = [factory.keywords["lr"] / 2**steps for factory, steps in zip(factories, (1, 2), strict=True)]
    assert learning_rates == expected


@pytest.mark.parametrize("factories", [ADAMS, UNSUPPORTED[1]])
def test_state_dict_restores_training(factories: list[OptimizerFactory], inputs: list[torch.Tensor]) -> None:
    training, resumed = StackedTraining(factories), StackedTraining(factories)
    training.step(inputs[0])
    state, weights = deepcopy(training.optimizer.state_dict()), training.weights()
    training.step(inputs[1])
    for network, network_weights in zip(resumed.networks, weights, strict=True):
        network.load_state_dict(network_weights)
    resumed.optimizer.load_state_dict(state)
    resumed.set_active(range(len(factories)))
    resumed.step(inputs[1])
    torch.testing.assert_close(resumed.weights(), training.weights(), rtol=0, atol=0)


def test_parameter_without_gradient_falls_back_to_single_optimizers(inputs: list[torch.Tensor]) -> None:
    training = StackedTraining(ADAMS[:2])
    training.step(inputs[0])
    training.stack.template.idle = True  # type: ignore[assignment]
    training.step(inputs[1])
    assert training.optimizer.adam is None
    expected = Network(0)
    optimizer, schedule = optimizer_and_schedule(ADAMS[0], expected)
    for x, expected.idle in zip(inputs[:2], (False, True), strict=True):
        optimizer.zero_grad()
        expected(x).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(training.weights()[0], expected.state_dict(), rtol=1e-9, atol=1e-12)
    # Its parameters differ in their number of steps now.
    training.set_active([0, 1])
    assert training.optimizer.adam is None


def test_nan_stays_in_its_replica(inputs: list[torch.Tensor]) -> None:
    training = StackedTraining(ADAMS[:2])
    with torch.no_grad():
        training.networks[0].linear.weight.fill_(torch.nan)
    training.step(inputs[0])
    assert training.networks[0].linear.weight.isnan().all()
    torch.testing.assert_close(training.weights()[1], train_single(ADAMS[1], 1, inputs[:1]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize("limit", [1e-3, 5.0, 1e6])
def test_clipping_equals_that_of_each_network(by_value: bool, limit: float, inputs: list[torch.Tensor]) -> None:
    training = StackedTraining(ADAMS)
    training.step(inputs[0])
    clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
    training.stack.scatter_gradients(training.optimizer.gradients.clone())
    for network in training.networks:
        clip(network.parameters(), limit)
    expected = [[parameter.grad for parameter in network.parameters()] for network in training.networks]
    training.optimizer.clip(limit, by_value)
    training.stack.scatter_gradients(training.optimizer.gradients)
    clipped = [[parameter.grad for parameter in network.parameters()] for network in training.networks]
    torch.testing.assert_close(clipped, expected)
