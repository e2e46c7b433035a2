"""Bits per spike against nlb_tools."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.ranks import compute_synced, deal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blend_pl.errors import BlendError
from blend_pl.metrics import BitsPerSpike, bits_per_spike

N_TRIALS, N_BINS, N_UNITS = 12, 20, 7


def make(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rates = torch.rand(N_TRIALS, N_BINS, N_UNITS, generator=generator, dtype=torch.float64) + 0.01
    return rates, torch.poisson(rates, generator=generator)


def oracle(rates: Tensor, counts: Tensor) -> float:
    evaluation = pytest.importorskip("nlb_tools.evaluation")
    return float(evaluation.bits_per_spike(rates.double().numpy().copy(), counts.double().numpy().copy()))


def silent_unit(rates: Tensor, counts: Tensor) -> None:
    counts[..., 2] = 0


def zero_rates(rates: Tensor, counts: Tensor) -> None:
    rates[:5, 3] = 0
    assert counts[:5, 3].sum() > 0


def missing_counts(rates: Tensor, counts: Tensor) -> None:
    counts[:4, :9, :3] = torch.nan
    rates[0, 0, 0] = torch.nan


def unit_never_recorded(rates: Tensor, counts: Tensor) -> None:
    counts[..., 1] = torch.nan


def rates_in_hz(rates: Tensor, counts: Tensor) -> None:
    rates *= 200


def unchanged(rates: Tensor, counts: Tensor) -> None:
    pass


CASES = [unchanged, silent_unit, zero_rates, missing_counts, unit_never_recorded, rates_in_hz]


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("change", CASES, ids=lambda case: case.__name__)
def test_equals_nlb_tools(change: Callable[[Tensor, Tensor], None]) -> None:
    rates, counts = make()
    change(rates, counts)
    before = rates.clone(), counts.clone()
    assert bits_per_spike(rates, counts).item() == pytest.approx(oracle(rates, counts), abs=1e-12)
    torch.testing.assert_close((rates, counts), before, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("rate_type", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("count_type", [torch.uint8, torch.int64, torch.float16, torch.float32])
def test_takes_any_dtype(rate_type: torch.dtype, count_type: torch.dtype) -> None:
    rates, counts = make()
    rates, counts = rates.to(rate_type), counts.to(count_type)
    score = bits_per_spike(rates, counts)
    assert score.dtype == torch.float64
    assert score.item() == pytest.approx(oracle(rates, counts), abs=1e-9)


def test_many_float16_spikes_do_not_overflow() -> None:
    counts = torch.full((80, 100, 2), 20.0, dtype=torch.float16)
    counts[::2] = 10
    assert counts.sum().isinf()
    rates = counts.double() + 1
    assert bits_per_spike(rates, counts).item() == pytest.approx(oracle(rates, counts), abs=1e-9)


def test_masked_counts_are_ignored_like_nan() -> None:
    rates, counts = make()
    valid = torch.rand(counts.shape) < 0.7
    rates[~valid] = torch.nan
    masked = bits_per_spike(rates, counts.to(torch.uint8), valid)
    assert masked.item() == pytest.approx(oracle(rates, counts.where(valid, torch.nan)), abs=1e-9)


def test_positive_rates_of_a_silent_unit_lower_the_score() -> None:
    rates, counts = make()
    silent = counts.clone()
    silent[..., 0] = 0
    zero_rates = rates.clone()
    zero_rates[..., 0] = 0
    assert bits_per_spike(rates, silent) < bits_per_spike(zero_rates, silent)


def test_score_without_spikes_is_not_finite() -> None:
    rates, counts = make()
    no_spikes = torch.zeros_like(counts)
    with np.errstate(divide="ignore"):
        assert bits_per_spike(rates, no_spikes).item() == oracle(rates, no_spikes) == -np.inf
    assert bits_per_spike(rates, counts, torch.zeros_like(counts, dtype=torch.bool)).isnan()
    assert bits_per_spike(rates[:0], counts[:0]).isnan()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), n_ranks=st.integers(1, 4), n_batches=st.integers(1, 5))
def test_same_for_any_division_into_batches_and_ranks(seed: int, n_ranks: int, n_batches: int) -> None:
    rates, counts = make(seed)
    valid = counts < 3
    ranks = []
    for batches in deal(N_TRIALS, seed, n_ranks, n_batches):
        ranks.append(BitsPerSpike(N_UNITS))
        for batch in batches:
            ranks[-1].update(rates[batch], counts[batch], valid[batch])
    assert compute_synced(ranks).item() == pytest.approx(bits_per_spike(rates, counts, valid).item(), abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000))
def test_null_model_scores_zero(seed: int) -> None:
    _, counts = make(seed)
    null = counts.mean((0, 1)).expand_as(counts)
    assert bits_per_spike(null, counts).item() == pytest.approx(0, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10).filter(lambda scale: abs(scale - 1) > 1e-3))
def test_scaling_rates_with_the_correct_total_lowers_the_score(seed: int, scale: float) -> None:
    rates, counts = make(seed)
    rates = rates * counts.sum() / rates.sum()
    assert bits_per_spike(rates * scale, counts) < bits_per_spike(rates, counts)


@pytest.mark.parametrize(
    ("value", "message"),
    [(torch.nan, "NaN"), (-0.1, "negative"), (torch.inf, "infinite"), (-torch.inf, "negative")],
)
@pytest.mark.parametrize("count", [0, 2])
def test_invalid_rates_raise(value: float, message: str, count: int) -> None:
    rates, counts = make()
    rates[3, 4, 5], counts[3, 4, 5] = value, count
    metric = BitsPerSpike(N_UNITS)
    with pytest.raises(BlendError, match=message) as caught:
        metric.update(rates, counts)
    assert "\n" not in str(caught.value)
    assert metric.nll == 0


def test_infinite_counts_raise() -> None:
    rates, counts = make()
    counts[0, 0, 0] = torch.inf
    with pytest.raises(BlendError, match="counts are infinite"):
        bits_per_spike(rates, counts)


def test_wrong_shapes_raise() -> None:
    rates, counts = make()
    with pytest.raises(BlendError, match="counts have shape"):
        bits_per_spike(rates, counts[:, :1])
    with pytest.raises(BlendError, match="valid have shape"):
        bits_per_spike(rates, counts, torch.ones(N_TRIALS, N_BINS, 1, dtype=torch.bool))
    with pytest.raises(BlendError, match="rates have shape"):
        BitsPerSpike(N_UNITS + 1).update(rates, counts)
    with pytest.raises(BlendError, match="0 units"):
        BitsPerSpike(0)
