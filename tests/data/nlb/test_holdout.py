"""Tests of the training trials that select the checkpoint."""

from dataclasses import replace

import pytest
import torch
from helpers.sessions import session_of
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.nlb.holdout import divide_training_trials, holdout_mask
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import ConfigError

LENGTH = 7
"""Observed and forward bins of `session_of`."""


def session_at(starts: list[int]) -> SessionTensors:
    return replace(session_of(len(starts)), start_bin=torch.tensor(starts))


def bins_of(starts: torch.Tensor) -> set[int]:
    return {int(start) + bin_ for start in starts for bin_ in range(LENGTH)}


@given(starts=st.lists(st.integers(0, 600), min_size=4, max_size=60), fraction=st.floats(0.1, 0.5))
def test_both_parts_share_no_bin_or_are_refused(starts: list[int], fraction: float) -> None:
    session = session_at(starts)
    try:
        fit, selected = divide_training_trials(session, fraction, is_benchmark=False)
    except ConfigError:
        return
    assert not (fit & selected).any()
    assert fit.any()
    assert selected.any()
    assert not bins_of(session.start_bin[fit]) & bins_of(session.start_bin[selected])


@pytest.mark.parametrize("stride", [1, 3, 6])
def test_continuous_windows_are_divided_into_two_blocks(stride: int) -> None:
    session = session_at(list(range(0, 100 * stride, stride)))
    fit, selected = divide_training_trials(session, 0.2, is_benchmark=False)
    assert selected.nonzero()[:, 0].tolist() == list(range(80, 100))
    assert fit.nonzero()[:, 0].tolist() == list(range(80 - (LENGTH - 1) // stride))


def test_trials_without_overlap_are_drawn_one_by_one() -> None:
    fit, selected = divide_training_trials(session_at(list(range(0, 350, LENGTH))), 0.2, is_benchmark=False)
    assert torch.equal(selected, holdout_mask(50, 0.2))
    assert torch.equal(fit, ~selected)


def test_trials_of_a_benchmark_set_are_drawn_one_by_one() -> None:
    _, selected = divide_training_trials(session_at(list(range(0, 250, 5))), 0.2, is_benchmark=True)
    assert torch.equal(selected, holdout_mask(50, 0.2))


def test_overlapping_pairs_are_drawn_together() -> None:
    session = session_at([start + shift for start in range(0, 1000, 40) for shift in (0, 3)])
    fit, selected = divide_training_trials(session, 0.2, is_benchmark=False)
    assert torch.equal(fit, ~selected)
    assert torch.equal(selected[::2], selected[1::2])
    assert 8 <= selected.sum() <= 12


def test_padded_bins_are_not_shared() -> None:
    session = session_at(list(range(0, 100, 4)))
    observed = session.observed.clone()
    observed[:, 4:] = False
    _, selected = divide_training_trials(replace(session, observed=observed), 0.2, is_benchmark=False)
    assert torch.equal(selected, holdout_mask(25, 0.2))


def test_windows_that_all_overlap_are_refused() -> None:
    with pytest.raises(ConfigError, match="record more") as raised:
        divide_training_trials(session_at([0, 1, 2, 3, 4, 5]), 0.5, is_benchmark=False)
    assert "\n" not in str(raised.value)
