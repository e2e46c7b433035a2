"""When simulated units fire, in the times of the train and the test file."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.nlb.simulation.parameters import BIN_MS, FORWARD_MS, WINDOW_MS
from blend_pl.data.nlb.simulation.population import Population
from blend_pl.data.nlb.simulation.reach import Trials

SAMPLES_PER_MS = 30
"""Spike times lie on a clock of 30 kHz and are stored to the microsecond, as in MC_Maze."""

_SAMPLES_PER_BIN = BIN_MS * SAMPLES_PER_MS
_OBSERVED_BINS = (WINDOW_MS[1] - WINDOW_MS[0]) // BIN_MS
_TEST_BINS = _OBSERVED_BINS + FORWARD_MS // BIN_MS
_UNITS_AT_ONCE = 16


@dataclass(frozen=True)
class Spikes:
    """Spikes of all units, in the order of the population.

    Attributes:
        train: for each unit its sorted times in the train file, seconds.
        test: for each unit its sorted times in the observed windows of the test file, seconds.
        test_counts: (test trials, observed and forward bins of 5 ms, N) uint8.
    """

    train: list[np.ndarray]
    test: list[np.ndarray]
    test_counts: np.ndarray


def record_spikes(trials: Trials, population: Population, latents: np.ndarray, rng: np.random.Generator) -> Spikes:
    """Draws the spikes of all trials, unit by unit.

    Args:
        trials: timing.
        population: tuning.
        latents: (bins, latents) of all trials end to end.
        rng: source of the draws.
    """
    trial, _, first_bin = trials.grid(BIN_MS)
    n_train = int((~trials.is_test).sum())
    n_units = len(population.unit_id)
    train, test = [], []
    counts = np.zeros((len(trials) - n_train, _TEST_BINS, n_units), dtype=np.uint8)
    for start in range(0, n_units, _UNITS_AT_ONCE):
        rates = population.rates(latents, slice(start, start + _UNITS_AT_ONCE)).T.copy()
        for unit, rate in enumerate(rates, start):
            sample = draw_spikes(rate, rng)
            of_trial = trial[sample // _SAMPLES_PER_BIN]
            in_trial = sample - first_bin[of_trial] * _SAMPLES_PER_BIN
            seconds = (in_trial + trials.clock_ms[of_trial] * SAMPLES_PER_MS) / (1000 * SAMPLES_PER_MS)
            seconds = seconds.round(6)
            window_bin = (in_trial - trials.window_ms[of_trial] * SAMPLES_PER_MS) // _SAMPLES_PER_BIN
            in_test = trials.is_test[of_trial]
            train.append(seconds[~in_test])
            test.append(seconds[in_test & (window_bin >= 0) & (window_bin < _OBSERVED_BINS)])
            counted = in_test & (window_bin >= 0) & (window_bin < _TEST_BINS)
            np.add.at(counts[:, :, unit], (of_trial[counted] - n_train, window_bin[counted]), 1)
    return Spikes(train, test, counts)


def draw_spikes(rates_hz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One unit's spikes: a Poisson process of piecewise constant rate, without refractory period.

    So a unit may fire twice within a millisecond, as a Poisson likelihood assumes (a recorded unit does not).

    Args:
        rates_hz: (bins,) rate in each bin of `BIN_MS`.
        rng: source of the draw.

    Returns:
        (spikes,) int64, not decreasing: samples of the 30 kHz clock since the first bin's start.
    """
    expected = np.concatenate([[0.0], np.cumsum(rates_hz, dtype=np.float64) * (BIN_MS / 1000)])
    quantile = np.sort(rng.random(rng.poisson(expected[-1]))) * expected[-1]
    in_bins = np.interp(quantile, expected, np.arange(len(expected)))
    samples = (in_bins * _SAMPLES_PER_BIN).astype(np.int64)
    return np.minimum(samples, len(rates_hz) * _SAMPLES_PER_BIN - 1)
