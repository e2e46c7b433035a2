"""Wiener filter from lagged counts to velocity."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.sessions import session_of
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from blend_pl.baselines.grids import HyperparameterGrid
from blend_pl.baselines.wiener import MAX_LAGS_PER_SIDE, WienerFilter, lag_weights
from blend_pl.data.nlb.session import SessionTensors

TRIALS, BINS = 60, 20


def lagged_session(shift: int = 0) -> SessionTensors:
    """Returns a session whose velocity is a linear function of the held-in counts `shift` bins before, and noise."""
    session = session_of(trials=TRIALS, bins=BINS, forward=0)
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]])
    drive = session.spikes[:, :, :3].float().roll(shift, 1) @ weights
    drive[:, :shift] = torch.nan
    return replace(session, behavior=drive + 0.1 * session.behavior)


def split(session: SessionTensors) -> tuple[SessionTensors, SessionTensors]:
    return session.select(torch.arange(40)), session.select(torch.arange(40, TRIALS))


def grid(*lags_ms: float, penalties: tuple[float, ...] = (1e-4, 1.0)) -> HyperparameterGrid:
    return HyperparameterGrid((20.0,), penalties, lags_ms)


@pytest.mark.parametrize("n_lag_bins", [0, 1, 4, 5, 13])
def test_lagged_counts_interpolate_linearly(n_lag_bins: int) -> None:
    weights = lag_weights(BINS, n_lag_bins)
    assert len(weights) <= 2 * MAX_LAGS_PER_SIDE + 1
    middle = BINS // 2
    reach = len(weights) // 2 * max(1, -(-n_lag_bins // MAX_LAGS_PER_SIDE))
    inside = weights[:, middle, max(0, middle - reach) : middle + reach + 1]
    torch.testing.assert_close(inside.sum(0), torch.ones_like(inside[0]))
    if n_lag_bins <= MAX_LAGS_PER_SIDE:
        expected = torch.stack([torch.ones(BINS - abs(lag)).diag(lag) for lag in range(-n_lag_bins, n_lag_bins + 1)])
        torch.testing.assert_close(weights, expected.double())


@pytest.mark.parametrize("shift", [1, 4])
def test_lags_are_selected_that_reach_the_counts(shift: int) -> None:
    fit_trials, selection_trials = split(lagged_session(shift))
    selected = WienerFilter.select(fit_trials, selection_trials, grid(0.0, 20.0, 80.0))
    assert selected is not None
    assert selected.lag_ms >= 20 * shift
    assert selected.penalty == 1e-4
    assert selected.evaluate(fit_trials, selection_trials)["vel_r2"] > 0.95
    too_short = WienerFilter(20.0 * (shift - 1), 1e-4, 0.0).evaluate(fit_trials, selection_trials)
    assert too_short["vel_r2"] < 0.5


def test_score_equals_that_of_scikit_learn() -> None:
    train, evaluation = split(lagged_session(1))
    inputs, outputs = [], []
    means = train.spikes[..., :3].double().mean((0, 1)).numpy()
    for session in (train, evaluation):
        padded = np.pad(session.spikes[..., :3].numpy() - means, [(0, 0), (2, 2), (0, 0)])
        used = session.velocity.isfinite().all(-1).numpy()
        inputs.append(np.concatenate([padded[:, lag : lag + BINS] for lag in range(5)], -1)[used])
        outputs.append(session.velocity.numpy()[used])
    alpha = 0.3 * inputs[0].var(0).mean() * len(inputs[0])
    predicted = Ridge(alpha).fit(inputs[0], outputs[0]).predict(inputs[1])
    score = WienerFilter(40.0, 0.3, 0.0).evaluate(train, evaluation)["vel_r2"]
    assert score == pytest.approx(r2_score(outputs[1], predicted), abs=1e-6)


def test_each_decoder_has_its_own_trials() -> None:
    session = lagged_session()
    is_first = torch.arange(TRIALS) % 2 == 0
    session.behavior[~is_first] *= -1
    mask = torch.stack([is_first, ~is_first], 1)
    wiener = WienerFilter(0.0, 1e-4, 0.0)
    assert wiener.evaluate(*split(session))["vel_r2"] < 0.2
    assert wiener.evaluate(*split(replace(session, decode_mask=mask)))["vel_r2"] > 0.95


def test_unrecorded_counts_and_held_out_units_change_nothing() -> None:
    session = lagged_session()
    session.observed[3, 2:7, 0] = False
    valid = session.valid_mask(torch.arange(TRIALS))
    garbage = torch.where(valid, session.spikes, 200)
    garbage[..., 3:] = 9
    wiener = WienerFilter(40.0, 1e-2, 0.0)
    expected = wiener.evaluate(*split(session))
    assert wiener.evaluate(*split(replace(session, spikes=garbage))) == expected


def test_nothing_is_selected_without_a_velocity_that_varies() -> None:
    fit_trials, selection_trials = split(lagged_session())
    assert WienerFilter.select(fit_trials, replace(selection_trials, decode_mask=torch.zeros(20, 1).bool())) is None
    still = replace(selection_trials, behavior=torch.ones_like(selection_trials.behavior))
    assert WienerFilter.select(fit_trials, still) is None


def test_largest_lag_is_named_if_it_is_best() -> None:
    selected = WienerFilter.select(*split(lagged_session(3)), grid(0.0, 20.0, 60.0))
    assert selected is not None
    assert any("lag of the Wiener filter, 60 ms, is the largest" in line for line in selected.warnings)
