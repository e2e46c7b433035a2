import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD

from blend_pl.systems.schedule import Constant, WarmupCosine


def rates(total: int, warmup: float, steps: int | None = None) -> list[float]:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = WarmupCosine(optimizer, total, warmup)
    learning_rates = []
    for _ in range(total if steps is None else steps):
        learning_rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return learning_rates


def test_warmup_is_linear_and_decay_is_a_half_cosine() -> None:
    learning_rates = rates(100, 0.2)
    assert learning_rates[:20] == pytest.approx([2 * (step + 1) / 21 for step in range(20)])
    assert learning_rates[20:] == pytest.approx([1 + math.cos(math.pi * step / 80) for step in range(80)])


@given(total=st.integers(1, 60), warmup=st.floats(0, 1))
def test_rate_is_positive_and_never_above_the_peak(total: int, warmup: float) -> None:
    learning_rates = rates(total, warmup)
    assert min(learning_rates) > 0
    assert max(learning_rates) <= 2.0
    peak = learning_rates.index(max(learning_rates))
    assert learning_rates[: peak + 1] == sorted(learning_rates[: peak + 1])
    assert learning_rates[peak:] == sorted(learning_rates[peak:], reverse=True)


def test_rate_is_zero_after_the_last_step() -> None:
    assert rates(10, 0.1, 15)[10:] == pytest.approx([0.0] * 5, abs=1e-9)


def test_schedule_resumes_from_its_state() -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    first = WarmupCosine(optimizer, 20)
    for _ in range(7):
        optimizer.step()
        first.step()
    second = WarmupCosine(SGD([torch.zeros(1, requires_grad=True)], lr=2.0), 20)
    second.load_state_dict(first.state_dict())
    assert second.get_last_lr() == pytest.approx([rates(20, 0.1)[7]])


def test_constant_rate_does_not_change() -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = Constant(optimizer, 10)
    learning_rates = []
    for _ in range(12):
        learning_rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert learning_rates == [2.0] * 12
