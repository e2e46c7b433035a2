"""Tests of the timing correlation, compared with nlb_tools."""

import numpy as np
import pytest
import torch
from helpers.ranks import compute_synced, deal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blend_pl.errors import BlendError, DataError
from blend_pl.metrics import TimingCorrelation

N_TRIALS, N_BINS, N_UNITS = 24, 20, 5

TimingTrials = tuple[Tensor, Tensor, Tensor, Tensor]
"""Rates, scored bins, conditions and produced intervals."""


def make_trials(seed: int = 0) -> TimingTrials:
    """Returns rates, scored bins, conditions (-1: none) and produced intervals in ms; intervals set the mean rates."""
    generator = torch.Generator().manual_seed(seed)
    intervals = 400 + 400 * torch.rand(N_TRIALS, generator=generator, dtype=torch.float64)
    noise = torch.rand(N_TRIALS, N_BINS, N_UNITS, generator=generator, dtype=torch.float64)
    bins = torch.arange(N_BINS)
    first_bin = torch.randint(0, 8, (N_TRIALS,), generator=generator)
    last_bin = torch.randint(12, N_BINS, (N_TRIALS,), generator=generator)
    scored_bins = (bins >= first_bin[:, None]) & (bins <= last_bin[:, None])
    conditions = torch.arange(N_TRIALS) % 4 - 1
    return noise * (1000 / intervals)[:, None, None], scored_bins, conditions, intervals


def score(trials: TimingTrials) -> float:
    rates, *trial_info = trials
    metric = TimingCorrelation(N_UNITS, *trial_info)
    metric.update(rates, torch.arange(len(rates)))
    return metric.compute().item()


def nlb_tools_score(trials: TimingTrials) -> float:
    evaluation = pytest.importorskip("nlb_tools.evaluation")
    rates, scored_bins, conditions, intervals = trials
    spikes = np.where(scored_bins[..., None], 0.0, np.nan)
    behavior = np.stack([conditions, 0 * conditions, 0 * conditions, intervals], axis=1).astype(float)
    behavior[conditions < 0] = np.nan
    return float(evaluation.speed_tp_correlation(spikes, rates.numpy(), behavior))


@pytest.mark.parametrize("seed", range(4))
def test_equals_nlb_tools(seed: int) -> None:
    trials = make_trials(seed)
    assert score(trials) < -0.2
    assert score(trials) == pytest.approx(nlb_tools_score(trials), abs=1e-12)


def test_rates_outside_scored_bins_are_ignored() -> None:
    rates, scored_bins, conditions, intervals = make_trials()
    expected = score((rates, scored_bins, conditions, intervals))
    assert (
        score((rates.masked_fill(~scored_bins[..., None], torch.nan), scored_bins, conditions, intervals)) == expected
    )


def test_condition_with_one_trial_is_ignored() -> None:
    rates, scored_bins, conditions, intervals = make_trials()
    with_single_trial_condition = conditions.clone()
    with_single_trial_condition[0] = 9
    without_condition = conditions.clone()
    without_condition[0] = -1
    assert score((rates, scored_bins, with_single_trial_condition, intervals)) == score(
        (rates, scored_bins, without_condition, intervals)
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n_ranks=st.integers(1, 3), n_batches=st.integers(1, 5))
def test_same_for_any_division_into_batches_and_ranks(seed: int, n_ranks: int, n_batches: int) -> None:
    rates, *trial_info = make_trials(seed % 7)
    ranks = []
    for batches in deal(N_TRIALS, seed, n_ranks, n_batches):
        ranks.append(TimingCorrelation(N_UNITS, *trial_info))
        for index in batches:
            ranks[-1].update(rates[index], index)
    assert compute_synced(ranks).item() == pytest.approx(score((rates, *trial_info)), abs=1e-12)


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda r, s, g, p: (r * torch.nan, s, g, p), "NaN or infinite"),
        (lambda r, s, g, p: (r[:, 1:], s, g, p), "rates have shape"),
        (lambda r, s, g, p: (r, s, g, p * torch.nan), "no produced interval"),
        (lambda r, s, g, p: (r, s, 0 * g - 1, p), "no trial has a condition"),
        (lambda r, s, g, p: (r, s[1:], g, p), "conditions have shape"),
    ],
)
def test_invalid_input_raises(corrupt: object, message: str) -> None:
    with pytest.raises((BlendError, DataError), match=message):
        score(corrupt(*make_trials()))  # type: ignore[operator]
