from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blend_pl.data.nlb.simulation.files import GROUND_TRUTH_FILE, write_session
from blend_pl.data.nlb.simulation.ground_truth import read_rates
from blend_pl.data.nlb.simulation.new_trials import draw_new_rates
from blend_pl.data.nlb.simulation.parameters import NLBSimulation
from blend_pl.data.nlb.simulation.tuning import LOG_LINEAR, MIXED, N_BEHAVIORAL, SATURATING, draw_tuning, log_rates
from blend_pl.errors import ConfigError

SIMULATION = NLBSimulation(n_train=60, n_val=8, n_test=3, n_none=0, n_units=15, n_heldout=3, tuning="nonlinear")


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N_BEHAVIORAL + 3, 9))


@pytest.fixture
def latents() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(50, 4, N_BEHAVIORAL + 3))


def test_log_linear_units_add_the_weighted_latents(latents: np.ndarray, weights: np.ndarray) -> None:
    log_base = np.arange(9.0)
    expected = latents @ weights + log_base
    np.testing.assert_allclose(log_rates(latents, weights, log_base, np.full(9, LOG_LINEAR)), expected)


def test_rate_of_saturating_units_at_most_doubles(latents: np.ndarray, weights: np.ndarray) -> None:
    rates = np.exp(log_rates(10 * latents, weights, np.zeros(9), np.full(9, SATURATING)))
    drive = 10 * latents @ weights
    np.testing.assert_allclose(rates, 2 / (1 + np.exp(-3 * drive)), rtol=1e-6)


def test_private_latents_change_the_tuning_of_mixed_units(latents: np.ndarray, weights: np.ndarray) -> None:
    tuning = np.full(9, MIXED)
    silent = latents.copy()
    silent[..., N_BEHAVIORAL:] = 0
    behavioral = silent @ weights
    private = (latents - silent) @ weights
    expected = behavioral + private + 2 * behavioral * private
    np.testing.assert_allclose(log_rates(latents, weights, np.zeros(9), tuning), expected)


def test_nonlinear_populations_have_units_of_each_kind() -> None:
    tuning = draw_tuning("nonlinear", 15, np.random.default_rng(0))
    assert np.bincount(tuning).tolist() == [5, 5, 5]
    assert not draw_tuning("log_linear", 15, np.random.default_rng(0)).any()


def test_nonlinear_session_has_its_mean_rate_and_its_new_trials(tmp_path: Path) -> None:
    write_session(SIMULATION, tmp_path / "session")
    rates = read_rates(tmp_path / "session" / GROUND_TRUTH_FILE, np.arange(68), 20)
    observed = rates[:, :35].numpy()
    assert observed.mean() / 0.02 == pytest.approx(SIMULATION.mean_rate_hz, rel=0.05)
    error = rates.std(0) / len(rates) ** 0.5
    z_scores = (draw_new_rates(SIMULATION, 600, 20).mean(0) - rates.mean(0)) / error
    assert z_scores.square().mean() < 2
    log_linear = draw_new_rates(replace(SIMULATION, tuning="log_linear"), 600, 20)
    assert ((log_linear.mean(0) - rates.mean(0)) / error).square().mean() > 3


def test_unknown_tuning_raises() -> None:
    with pytest.raises(ConfigError, match="tuning is 'cubic'"):
        replace(SIMULATION, tuning="cubic")  # type: ignore[arg-type]
