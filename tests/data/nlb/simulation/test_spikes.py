"""Tests of simulated spikes."""

import numpy as np
import pytest

from blend_pl.data.nlb.simulation.spikes import draw_spikes

SAMPLES_PER_BIN = 150


def test_counts_are_poisson():
    rng = np.random.default_rng(0)
    rates = np.tile([1.0, 20.0, 100.0, 5.0], 50_000)
    counts = np.bincount(draw_spikes(rates, rng) // SAMPLES_PER_BIN, minlength=len(rates)).reshape(-1, 4)
    expected = rates[:4] * 0.005
    np.testing.assert_allclose(counts.mean(axis=0), expected, rtol=0.1)
    np.testing.assert_allclose(counts.var(axis=0), expected, rtol=0.1)
    for first in range(4):
        correlation = np.corrcoef(counts[:, first], counts[:, (first + 1) % 4])[0, 1]
        assert abs(correlation) < 0.02


def test_spikes_are_sorted_and_spread_evenly_within_a_bin():
    samples = draw_spikes(np.full(100_000, 100.0), np.random.default_rng(0))
    assert (np.diff(samples) >= 0).all()
    assert samples.min() >= 0
    assert samples.max() < 100_000 * SAMPLES_PER_BIN
    counts = np.bincount(samples % SAMPLES_PER_BIN, minlength=SAMPLES_PER_BIN)
    assert counts.min() > 0.7 * counts.mean()
    assert counts.max() < 1.3 * counts.mean()


@pytest.mark.parametrize("rate", [0.0, 1e-9])
def test_silent_unit_has_no_spikes(rate):
    assert len(draw_spikes(np.full(10, rate), np.random.default_rng(0))) == 0
