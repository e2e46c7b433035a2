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
    found = []
    for _ in range(total if steps is None else steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_rises_in_a_line_and_falls_as_half_a_cosine() -> None:
    found = rates(100, 0.2)
    assert found[:20] == pytest.approx([2 * (step + 1) / 21 for step in range(20)])
    assert found[20:] == pytest.approx([1 + math.cos(math.pi * step / 80) for step in range(80)])


@given(total=st.integers(1, 60), warmup=st.floats(0, 1))
def test_is_positive_to_the_last_step_and_never_above_the_full_rate(total: int, warmup: float) -> None:
    found = rates(total, warmup)
    assert min(found) > 0
    assert max(found) <= 2.0
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)


def test_stays_at_zero_after_the_end() -> None:
    assert rates(10, 0.1, 15)[10:] == pytest.approx([0.0] * 5, abs=1e-9)


def test_resumes_where_it_was() -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    first = WarmupCosine(optimizer, 20)
    for _ in range(7):
        optimizer.step()
        first.step()
    second = WarmupCosine(SGD([torch.zeros(1, requires_grad=True)], lr=2.0), 20)
    second.load_state_dict(first.state_dict())
    assert second.get_last_lr() == pytest.approx([rates(20, 0.1)[7]])


def test_a_constant_rate_stays() -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = Constant(optimizer, 10)
    found = []
    for _ in range(12):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found == [2.0] * 12
