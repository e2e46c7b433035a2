"""Simulated spikes in the times of the train and the test file."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.nlb.simulation.parameters import BIN_MS, FORWARD_MS, WINDOW_MS
from blend_pl.data.nlb.simulation.population import SimulatedUnits
from blend_pl.data.nlb.simulation.reach import Trials

SAMPLES_PER_MS = 30
"""Samples of the 30 kHz clock per ms; spike times are rounded to the microsecond, as in MC_Maze."""

_SAMPLES_PER_BIN = BIN_MS * SAMPLES_PER_MS
_OBSERVED_BINS = (WINDOW_MS[1] - WINDOW_MS[0]) // BIN_MS
_TEST_BINS = _OBSERVED_BINS + FORWARD_MS // BIN_MS
_UNITS_PER_CHUNK = 16


@dataclass(frozen=True)
class SimulatedSpikes:
    """Spikes of all units, in the order of the population.

    Attributes:
        train_times: sorted spike times of each unit in the train file, s.
        test_times: sorted spike times of each unit in the observed windows of the test file, s.
        test_counts: (test trials, observed and forward bins of 5 ms, N) uint8.
    """

    train_times: list[np.ndarray]
    test_times: list[np.ndarray]
    test_counts: np.ndarray


def simulate_spikes(
    trials: Trials, units: SimulatedUnits, latents: np.ndarray, rng: np.random.Generator
) -> SimulatedSpikes:
    """Draws the spikes of all trials, unit by unit.

    Args:
        trials: timing of the trials.
        units: tuning of the units.
        latents: (bins, latents) of concatenated trials.
        rng: source of the draws.
    """
    trial, _, first_bin = trials.time_grid(BIN_MS)
    n_train = int((~trials.is_test).sum())
    n_units = len(units.unit_id)
    train_times, test_times = [], []
    counts = np.zeros((len(trials) - n_train, _TEST_BINS, n_units), dtype=np.uint8)
    for start in range(0, n_units, _UNITS_PER_CHUNK):
        rates = units.rates(latents, slice(start, start + _UNITS_PER_CHUNK)).T.copy()
        for unit, rate in enumerate(rates, start):
            spike_samples = draw_spikes(rate, rng)
            spike_trial = trial[spike_samples // _SAMPLES_PER_BIN]
            sample_in_trial = spike_samples - first_bin[spike_trial] * _SAMPLES_PER_BIN
            spike_times = (sample_in_trial + trials.file_offset_ms[spike_trial] * SAMPLES_PER_MS) / (
                1000 * SAMPLES_PER_MS
            )
            spike_times = spike_times.round(6)
            window_bin = (sample_in_trial - trials.window_start_ms[spike_trial] * SAMPLES_PER_MS) // _SAMPLES_PER_BIN
            is_test = trials.is_test[spike_trial]
            train_times.append(spike_times[~is_test])
            test_times.append(spike_times[is_test & (window_bin >= 0) & (window_bin < _OBSERVED_BINS)])
            is_counted = is_test & (window_bin >= 0) & (window_bin < _TEST_BINS)
            np.add.at(counts[:, :, unit], (spike_trial[is_counted] - n_train, window_bin[is_counted]), 1)
    return SimulatedSpikes(train_times, test_times, counts)


def draw_spikes(rates_hz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws the spikes of one unit: a Poisson process of piecewise constant rate, without a refractory period.

    Unlike a recorded unit, a simulated one can fire twice within a millisecond, as a Poisson likelihood assumes.

    Args:
        rates_hz: (bins,) rate in each bin of `BIN_MS`.
        rng: source of the draw.

    Returns:
        (spikes,) int64 in increasing order: samples of the 30 kHz clock from the start of the first bin.
    """
    cumulative_count = np.concatenate([[0.0], np.cumsum(rates_hz, dtype=np.float64) * (BIN_MS / 1000)])
    spike_counts = np.sort(rng.random(rng.poisson(cumulative_count[-1]))) * cumulative_count[-1]
    fractional_bin = np.interp(spike_counts, cumulative_count, np.arange(len(cumulative_count)))
    samples = (fractional_bin * _SAMPLES_PER_BIN).astype(np.int64)
    limited_samples: np.ndarray = np.minimum(samples, len(rates_hz) * _SAMPLES_PER_BIN - 1)
    return limited_samples
