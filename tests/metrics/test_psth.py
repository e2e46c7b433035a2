"""PSTH R2 against nlb_tools."""

import pytest
import torch
from helpers.ranks import compute_synced, deal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blend_pl.errors import BlendError, DataError
from blend_pl.metrics import PsthR2

N_TRIALS, N_BINS, N_UNITS, N_CONDITIONS = 30, 15, 6, 5


def make(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Returns rates, conditions (some trials without) and PSTHs; the rates are PSTHs with noise."""
    generator = torch.Generator().manual_seed(seed)
    psth = torch.rand(N_CONDITIONS, N_BINS, N_UNITS, generator=generator, dtype=torch.float64)
    condition = torch.randint(-1, N_CONDITIONS, (N_TRIALS,), generator=generator)
    noise = torch.rand(N_TRIALS, N_BINS, N_UNITS, generator=generator, dtype=torch.float64)
    return psth[condition] + noise, condition, psth


def score(rates: Tensor, condition: Tensor, psth: Tensor) -> float:
    metric = PsthR2(psth)
    metric.update(rates, condition)
    return metric.compute().item()


def oracle(rates: Tensor, condition: Tensor, psth: Tensor) -> float:
    evaluation = pytest.importorskip("nlb_tools.evaluation")
    trials = [(condition == row).nonzero()[:, 0].numpy() for row in range(len(psth))]
    return float(evaluation.eval_psth(psth.double().numpy(), rates.double().numpy(), trials))


@pytest.mark.parametrize("seed", range(3))
def test_equals_nlb_tools(seed: int) -> None:
    data = make(seed)
    assert score(*data) == pytest.approx(oracle(*data), abs=1e-10)


def test_condition_without_trials_is_ignored() -> None:
    rates, condition, psth = make()
    condition[condition == 2] = -1
    psth[2] *= 100
    assert score(rates, condition, psth) == pytest.approx(oracle(rates, condition, psth), abs=1e-10)


def test_undefined_bins_are_ignored() -> None:
    rates, condition, psth = make()
    for row in range(N_CONDITIONS):
        psth[row, : 2 * row] = torch.nan
        rates[condition == row, : 2 * row] = torch.nan
    rates[condition == -1] = torch.nan
    assert score(rates, condition, psth) == pytest.approx(oracle(rates, condition, psth), abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_shifted_windows_equal_nlb_tools(seed: int) -> None:
    evaluation = pytest.importorskip("nlb_tools.evaluation")
    rates, condition, psth = make(seed)
    psth[:, :4] = torch.nan
    psth[2, -4:] = torch.nan
    jitter = torch.randint(0, 5, (N_TRIALS,), generator=torch.Generator().manual_seed(seed))
    jitter[condition == 2] -= 4
    trials = [(condition == row).nonzero()[:, 0].numpy() for row in range(len(psth))]
    expected = float(evaluation.eval_psth(psth.numpy(), rates.numpy(), trials, jitter.numpy()))
    metric = PsthR2(psth)
    metric.update(rates, condition, jitter)
    assert metric.compute().item() == pytest.approx(expected, abs=1e-10)


def test_window_shifted_out_of_the_psth_raises() -> None:
    rates, condition, psth = make()
    with pytest.raises(BlendError, match="NaN"):
        PsthR2(psth).update(rates, condition, torch.ones_like(condition))


def test_silent_units_score_zero_or_one() -> None:
    rates, condition, psth = make()
    psth[..., 0] = 0
    psth[..., 1] = 0
    rates[..., 1] = 0
    assert score(rates, condition, psth) == pytest.approx(oracle(rates, condition, psth), abs=1e-10)
    assert score(rates[..., :1], condition, psth[..., :1]) == 0
    assert score(rates[..., 1:2], condition, psth[..., 1:2]) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_takes_any_dtype(dtype: torch.dtype) -> None:
    rates, condition, psth = make()
    rates, psth = rates.to(dtype), psth.to(torch.float32)
    assert score(rates, condition.to(torch.int32), psth) == pytest.approx(oracle(rates, condition, psth), abs=1e-10)


def test_many_float16_trials_do_not_overflow() -> None:
    psth = torch.rand(1, 4, 2)
    rates = torch.full((100, 4, 2), 2000.0, dtype=torch.float16)
    assert rates.sum(0).isinf().any()
    condition = torch.zeros(100, dtype=torch.int64)
    assert score(rates, condition, psth) == pytest.approx(oracle(rates, condition, psth), rel=1e-10)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), n_ranks=st.integers(1, 4), n_batches=st.integers(1, 5))
def test_same_for_any_division_into_batches_and_ranks(seed: int, n_ranks: int, n_batches: int) -> None:
    rates, condition, psth = make(seed)
    ranks = []
    for batches in deal(N_TRIALS, seed, n_ranks, n_batches):
        ranks.append(PsthR2(psth))
        for batch in batches:
            ranks[-1].update(rates[batch], condition[batch])
    assert compute_synced(ranks).item() == pytest.approx(score(rates, condition, psth), abs=1e-12)


def test_true_psth_scores_one() -> None:
    _, condition, psth = make()
    assert score(psth[condition], condition, psth) == pytest.approx(1, abs=1e-12)


def test_score_of_too_few_bins_is_nan() -> None:
    rates, condition, psth = make()
    assert score(rates, torch.full_like(condition, -1), psth) != score(rates, condition, psth)
    assert torch.tensor(score(rates, torch.full_like(condition, -1), psth)).isnan()
    assert torch.tensor(score(rates[:1, :1], torch.tensor([0]), psth[:, :1])).isnan()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_invalid_rates_raise(value: float) -> None:
    rates, condition, psth = make()
    trial = int((condition >= 0).nonzero()[0])
    rates[trial, 1, 1] = value
    metric = PsthR2(psth)
    with pytest.raises(BlendError, match="NaN or infinite") as caught:
        metric.update(rates, condition)
    assert "\n" not in str(caught.value)
    assert metric.trial_counts.sum() == 0


@pytest.mark.parametrize("row", [-2, N_CONDITIONS])
def test_unknown_conditions_raise(row: int) -> None:
    rates, condition, psth = make()
    condition[3] = row
    with pytest.raises(BlendError, match="conditions range from"):
        score(rates, condition, psth)


def test_wrong_shapes_raise() -> None:
    rates, condition, psth = make()
    with pytest.raises(BlendError, match="rates have shape"):
        score(rates[:, 1:], condition, psth)
    with pytest.raises(BlendError, match="conditions have shape"):
        score(rates, condition[1:], psth)
    with pytest.raises(BlendError, match="pass integers"):
        score(rates, condition.double(), psth)


def test_invalid_psths_raise() -> None:
    _, _, psth = make()
    with pytest.raises(DataError, match="omit the PSTH score"):
        PsthR2(psth[:0])
    psth[1, 2, 3] = torch.nan
    with pytest.raises(DataError, match="some units only"):
        PsthR2(psth)
