"""Tests of smoothed responses to conditions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal.windows import gaussian

from blend_pl.data.io.nwb import Units
from blend_pl.data.nlb.binning import SpikeTrains
from blend_pl.data.nlb.psth import smoothed_psth
from blend_pl.data.nlb.spec import WindowSpec
from blend_pl.data.nlb.windows import WindowShape, trial_windows

N_MS = 3000
WINDOW = WindowSpec(-50, 110, align="go", forward_ms=0)


def population(rng: np.random.Generator, intervals: np.ndarray, n_units: int = 3) -> SpikeTrains:
    times = [np.sort(rng.uniform(0, N_MS / 1000, 120)) for _ in range(n_units)]
    units = Units(
        np.arange(n_units),
        {},
        np.concatenate(times),
        np.cumsum([len(t) for t in times]),
        np.tile(intervals, (n_units, 1)),
        len(intervals) * np.arange(1, n_units + 1),
    )
    return SpikeTrains.from_units(units, np.ones(n_units, dtype=bool), N_MS)


def smoothed_table(units: SpikeTrains, sd_ms: int) -> np.ndarray:
    """Returns the (N_MS, N) smoothed recording, interval by interval; NaN where not recorded."""
    table = np.full((N_MS, units.n_units), np.nan)
    table[units.obs_intervals[0].contains(np.arange(N_MS))] = 0
    np.add.at(table, (units.spike_keys % N_MS, units.spike_keys // N_MS), 1)
    kernel = gaussian(6 * sd_ms, sd_ms)
    kernel /= kernel.sum()
    for start, stop in zip(units.obs_intervals[0].starts, units.obs_intervals[0].stops, strict=True):
        for unit in range(units.n_units):
            full = np.convolve(table[start:stop, unit], kernel)
            table[start:stop, unit] = full[(len(kernel) - 1) // 2 :][: stop - start]
    return table


@given(
    borders=st.lists(st.integers(0, N_MS), min_size=2, max_size=14, unique=True).map(sorted),
    events=st.lists(st.integers(0, N_MS * 10), min_size=1, max_size=8),
    bin_ms=st.sampled_from([5, 20]),
    sd_ms=st.sampled_from([5, 12]),
    seed=st.integers(0, 50),
)
@settings(max_examples=60)
def test_equals_smoothing_of_the_whole_recording(
    borders: list[int], events: list[int], bin_ms: int, sd_ms: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    units = population(rng, np.array(borders[: len(borders) // 2 * 2]).reshape(-1, 2) / 1000)
    shape = WindowShape.from_window(WINDOW, bin_ms)
    windows = trial_windows(WINDOW, shape, np.array(events) / 10_000, 0)
    condition = rng.integers(-1, 2, len(windows))
    table = smoothed_table(units, sd_ms)

    binned = np.nansum(table.reshape(-1, bin_ms, 3), axis=1)
    binned[np.isnan(table[::bin_ms, 0])] = np.nan
    padded = np.concatenate([binned, np.full((len(binned), 3), np.nan)])
    expected = np.full((2, shape.n_observed, 3), np.nan)
    for index in range(2):
        rows: dict[int, list[np.ndarray]] = {}
        for start, event in zip(windows.start[condition == index], windows.event[condition == index], strict=True):
            for bin_ in range(start, start + shape.n_observed):
                rows.setdefault(bin_ - event, []).append(padded[bin_ if bin_ >= 0 else -1])
        for row, key in enumerate(sorted(rows)[: shape.n_observed]):
            values = np.array(rows[key])
            if not np.isnan(values).all():
                expected[index, row] = np.nanmean(values, axis=0)
    np.testing.assert_allclose(smoothed_psth(units, windows, condition, 2, sd_ms), expected, rtol=0, atol=1e-12)


def test_spikes_far_from_borders_are_all_counted() -> None:
    units = population(np.random.default_rng(0), np.array([[0.0, 3.0]]))
    window = WindowSpec(0, 2900, align="go", forward_ms=0)
    windows = trial_windows(window, WindowShape.from_window(window, 5), np.array([0.05]), 0)
    mean = smoothed_psth(units, windows, np.zeros(1, dtype=int), 1, 5)
    assert mean.shape == (1, 580, 3)
    np.testing.assert_allclose(mean.sum(axis=(0, 1)), [120] * 3, atol=8)


@pytest.mark.parametrize("n", [0, 2])
def test_conditions_without_trials_are_undefined(n: int) -> None:
    units = population(np.random.default_rng(0), np.array([[0.0, 3.0]]))
    windows = trial_windows(WINDOW, WindowShape.from_window(WINDOW, 5), np.array([1.0]), 0)
    mean = smoothed_psth(units, windows, np.array([-1]), n, 5)
    assert mean.shape == (n, 32, 3)
    assert np.isnan(mean).all()
