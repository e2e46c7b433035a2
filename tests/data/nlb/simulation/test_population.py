"""Tests of simulated latents and units."""

from dataclasses import replace

import numpy as np
import pytest

from blend_pl.data.nlb.simulation.parameters import NLBSimulation
from blend_pl.data.nlb.simulation.population import (
    draw_trial_latents,
    draw_units,
    in_observed_window,
    latent_scale,
)
from blend_pl.data.nlb.simulation.reach import draw_trials, reach_velocity
from blend_pl.data.nlb.simulation.tuning import N_BEHAVIORAL

SIMULATION = NLBSimulation(n_train=150, n_val=30, n_test=30)


@pytest.fixture(scope="module")
def trials():
    return draw_trials(SIMULATION, np.random.default_rng(1))


@pytest.fixture(scope="module")
def latents(trials):
    latents = draw_trial_latents(SIMULATION, trials, np.random.default_rng(2))
    return latent_scale(trials, latents).standardize(latents)


@pytest.fixture(scope="module")
def observed(trials, latents):
    trial, start_ms, _ = trials.time_grid(5)
    return latents[in_observed_window(trials, trial, start_ms)]


def make_units(simulation, trials, latents, seed=3):
    return draw_units(simulation, trials, latents, np.random.default_rng(seed))


def test_latents_are_standardized_over_the_windows(observed):
    np.testing.assert_allclose(observed.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(observed.std(axis=0), 1, atol=1e-3)


def test_velocity_latents_lead_velocity_by_100_ms(trials, latents):
    trial, start_ms, _ = trials.time_grid(5)
    velocity = reach_velocity(trials, trial, start_ms + 102.5)
    for column in (0, 1):
        assert np.corrcoef(latents[:, 7 + column], velocity[:, column])[0, 1] > 0.9999


def test_private_latents_are_uncorrelated_with_behavior(observed):
    correlation = np.corrcoef(observed.astype(np.float64).T)[:N_BEHAVIORAL, N_BEHAVIORAL:]
    assert np.abs(correlation).max() < 0.25


def test_private_latents_have_a_time_constant_of_150_ms(trials, latents):
    slow_latent = latents[:, N_BEHAVIORAL].astype(np.float64)
    lag = 30
    correlation = np.corrcoef(slow_latent[:-lag], slow_latent[lag:])[0, 1]
    assert correlation == pytest.approx(np.exp(-1), abs=0.05)


@pytest.mark.parametrize("private_share", [0.0, 0.3, 0.8])
def test_private_share_of_the_log_rate_variance(trials, latents, observed, private_share):
    simulated_units = make_units(replace(SIMULATION, private_share=private_share), trials, latents)
    private = observed[:, N_BEHAVIORAL:] @ simulated_units.weights[N_BEHAVIORAL:]
    total = observed @ simulated_units.weights
    assert (private.var(axis=0) / total.var(axis=0)).mean() == pytest.approx(private_share, abs=0.03)


def test_gain_is_the_standard_deviation_of_the_log_rate(trials, latents, observed):
    simulated_units = make_units(replace(SIMULATION, gain=0.5, gain_spread=0.0), trials, latents)
    np.testing.assert_allclose((observed @ simulated_units.weights).std(axis=0), 0.5, rtol=0.15)


@pytest.mark.parametrize(("mean", "limit"), [(0.5, 120.0), (6.0, 120.0), (40.0, 90.0)])
def test_mean_rate_and_limit(trials, latents, observed, mean, limit):
    simulated_units = make_units(replace(SIMULATION, mean_rate_hz=mean, max_rate_hz=limit), trials, latents)
    rates = simulated_units.rates(observed)
    assert rates.mean() == pytest.approx(mean, rel=0.01)
    assert rates.max() <= limit * (1 + 1e-6)
    assert rates.min() > 0


def test_rates_reach_the_limit(trials, latents, observed):
    simulated_units = make_units(replace(SIMULATION, mean_rate_hz=40.0, max_rate_hz=90.0), trials, latents)
    assert np.mean(simulated_units.rates(observed) > 89.9) > 0.01


def test_rate_spread_is_the_spread_of_log_base(trials, latents):
    simulated_units = make_units(replace(SIMULATION, n_units=500, rate_spread=1.2), trials, latents)
    assert simulated_units.log_base.std() == pytest.approx(1.2, rel=0.1)


@pytest.mark.parametrize(("n_units", "n_heldout"), [(1, 0), (3, 1), (61, 15), (182, 45), (700, 100)])
def test_ids_and_heldout_units(trials, latents, n_units, n_heldout):
    simulated_units = make_units(replace(SIMULATION, n_units=n_units, n_heldout=n_heldout), trials, latents)
    assert len(simulated_units.unit_id) == n_units
    assert (np.diff(simulated_units.unit_id) > 0).all()
    assert simulated_units.unit_id.min() >= 1011
    assert simulated_units.heldout.sum() == n_heldout


def test_slice_of_units_has_the_same_rates(trials, latents, observed):
    simulated_units = make_units(SIMULATION, trials, latents)
    np.testing.assert_allclose(
        simulated_units.rates(observed, slice(7, 12)), simulated_units.rates(observed)[:, 7:12], rtol=1e-5
    )
