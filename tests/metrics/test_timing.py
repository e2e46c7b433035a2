"""Timing correlation against nlb_tools."""

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

Data = tuple[Tensor, Tensor, Tensor, Tensor]


def make(seed: int = 0) -> Data:
    """Returns rates, scored bins (an interval of varying length), conditions (some trials without) and intervals."""
    generator = torch.Generator().manual_seed(seed)
    produced = 400 + 400 * torch.rand(N_TRIALS, generator=generator, dtype=torch.float64)
    noise = torch.rand(N_TRIALS, N_BINS, N_UNITS, generator=generator, dtype=torch.float64)
    bins = torch.arange(N_BINS)
    first = torch.randint(0, 8, (N_TRIALS,), generator=generator)
    last = torch.randint(12, N_BINS, (N_TRIALS,), generator=generator)
    scored = (bins >= first[:, None]) & (bins <= last[:, None])
    group = torch.arange(N_TRIALS) % 4 - 1
    return noise * (1000 / produced)[:, None, None], scored, group, produced


def score(data: Data) -> float:
    rates, *trial_info = data
    metric = TimingCorrelation(N_UNITS, *trial_info)
    metric.update(rates, torch.arange(len(rates)))
    return metric.compute().item()


def oracle(data: Data) -> float:
    evaluation = pytest.importorskip("nlb_tools.evaluation")
    rates, scored, group, produced = data
    spikes = np.where(scored[..., None], 0.0, np.nan)
    behavior = np.stack([group, 0 * group, 0 * group, produced], axis=1).astype(float)
    behavior[group < 0] = np.nan
    return float(evaluation.speed_tp_correlation(spikes, rates.numpy(), behavior))


@pytest.mark.parametrize("seed", range(4))
def test_equals_nlb_tools(seed: int) -> None:
    data = make(seed)
    assert score(data) < -0.2
    assert score(data) == pytest.approx(oracle(data), abs=1e-12)


def test_rates_outside_the_scored_bins_are_ignored() -> None:
    rates, scored, group, produced = make()
    expected = score((rates, scored, group, produced))
    assert score((rates.masked_fill(~scored[..., None], torch.nan), scored, group, produced)) == expected


def test_condition_with_one_trial_is_ignored() -> None:
    rates, scored, group, produced = make()
    single = group.clone()
    single[0] = 9
    without = group.clone()
    without[0] = -1
    assert score((rates, scored, single, produced)) == score((rates, scored, without, produced))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n_ranks=st.integers(1, 3), n_batches=st.integers(1, 5))
def test_same_for_any_division_into_batches_and_ranks(seed: int, n_ranks: int, n_batches: int) -> None:
    rates, *trial_info = make(seed % 7)
    ranks = []
    for batches in deal(N_TRIALS, seed, n_ranks, n_batches):
        ranks.append(TimingCorrelation(N_UNITS, *trial_info))
        for index in batches:
            ranks[-1].update(rates[index], index)
    assert compute_synced(ranks).item() == pytest.approx(score((rates, *trial_info)), abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r, s, g, p: (r * torch.nan, s, g, p), "NaN or infinite"),
        (lambda r, s, g, p: (r[:, 1:], s, g, p), "rates have shape"),
        (lambda r, s, g, p: (r, s, g, p * torch.nan), "no produced interval"),
        (lambda r, s, g, p: (r, s, 0 * g - 1, p), "no trial has a condition"),
        (lambda r, s, g, p: (r, s[1:], g, p), "conditions have shape"),
    ],
)
def test_invalid_input_raises(change: object, message: str) -> None:
    with pytest.raises((BlendError, DataError), match=message):
        score(change(*make()))  # type: ignore[operator]
