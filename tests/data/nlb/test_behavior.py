"""Tests of resampling behavior to bins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import decimate

from blend_pl.data.io.nwb import TimeSeries
from blend_pl.data.nlb.behavior import bin_behavior, slice_behavior
from blend_pl.data.nlb.spec import BehaviorSpec
from blend_pl.data.nlb.windows import Windows, WindowShape
from blend_pl.errors import ConfigError, DataError

N_MS = 6000
ALL = BehaviorSpec("hand_vel")


def series(times: np.ndarray, data: np.ndarray) -> TimeSeries:
    return TimeSeries("hand_vel", times, data.reshape(len(data), -1), ["x", "y"])


def slow(times: np.ndarray) -> np.ndarray:
    """Two smooth signals below 2 Hz."""
    return np.stack([np.sin(2 * np.pi * 0.7 * times), np.cos(2 * np.pi * 1.3 * times + 1)], axis=1)


@given(
    gaps=st.lists(st.tuples(st.integers(0, N_MS - 1), st.integers(1, 500)), max_size=5),
    bin_ms=st.sampled_from([5, 20]),
    seed=st.integers(0, 100),
)
@settings(max_examples=30)
def test_gaps_are_interpolated_for_the_filter_and_restored(gaps: list[tuple[int, int]], bin_ms: int, seed: int) -> None:
    table = np.random.default_rng(seed).normal(size=(N_MS, 2))
    for start, length in gaps:
        table[start : start + length] = np.nan
    valid = np.flatnonzero(~np.isnan(table[:, 0]))
    interpolated = np.stack([np.interp(np.arange(N_MS), valid, table[valid, c]) for c in range(2)], axis=1)
    expected = decimate(interpolated, bin_ms, n=500, ftype="fir", axis=0)
    expected[np.isnan(table[::bin_ms])] = np.nan
    bins = bin_behavior(series(valid / 1000, table[valid]), ALL, N_MS, bin_ms)
    np.testing.assert_array_equal(bins, expected)


def test_bins_of_one_millisecond_are_not_filtered() -> None:
    data = np.random.default_rng(0).normal(size=(N_MS, 2))
    data[100:200] = np.nan
    bins = bin_behavior(series(np.arange(N_MS) / 1000, data), ALL, N_MS, 1)
    np.testing.assert_array_equal(bins, data)


def test_samples_outside_the_recording_are_ignored() -> None:
    times = np.arange(-500, N_MS + 500) / 1000
    data = np.random.default_rng(0).normal(size=(len(times), 2))
    inside = slice(500, 500 + N_MS)
    bins = bin_behavior(series(times, data), ALL, N_MS, 5)
    np.testing.assert_array_equal(bins, bin_behavior(series(times[inside], data[inside]), ALL, N_MS, 5))


@pytest.mark.parametrize("rate_hz", [30.0, 100.0, 250.0, 400.0, 1000.0, 1250.0, 2000.0, 30_000.0])
@pytest.mark.parametrize("bin_ms", [5, 20])
def test_any_rate_gives_the_signal_at_the_start_of_bins(rate_hz: float, bin_ms: int) -> None:
    times = 0.0003 + np.arange(round(N_MS / 1000 * rate_hz)) / rate_hz
    bins = bin_behavior(series(times, slow(times)), ALL, N_MS, bin_ms)
    at = np.arange(0, N_MS, bin_ms) / 1000
    away_from_edges = (at > 0.5) & (at < N_MS / 1000 - 0.5)
    assert bins.shape == (N_MS // bin_ms, 2)
    np.testing.assert_allclose(bins[away_from_edges], slow(at)[away_from_edges], atol=0.02)


def test_irregular_timestamps_are_interpolated() -> None:
    times = np.sort(np.random.default_rng(0).uniform(0, N_MS / 1000, 900))
    bins = bin_behavior(series(times, slow(times)), ALL, N_MS, 20)
    at = np.arange(0, N_MS, 20) / 1000
    valid = ~np.isnan(bins[:, 0]) & (at > 0.5) & (at < 5.5)
    assert valid.mean() > 0.5
    np.testing.assert_allclose(bins[valid], slow(at)[valid], atol=0.06)


@pytest.mark.parametrize(("rate_hz", "frequency"), [(250.0, 60.0), (4000.0, 60.0), (4000.0, 1990.0)])
def test_high_frequencies_are_not_aliased(rate_hz: float, frequency: float) -> None:
    times = 0.0001 + np.arange(round(N_MS / 1000 * rate_hz)) / rate_hz
    bins = bin_behavior(series(times, np.sin(2 * np.pi * frequency * times)), ALL, N_MS, 20)
    assert np.nanstd(bins[25:-25]) < 0.03


@pytest.mark.parametrize("rate_hz", [100.0, 250.0, 1000.0, 2000.0])
def test_long_gaps_are_missing_and_short_gaps_are_interpolated(rate_hz: float) -> None:
    times = np.arange(round(N_MS / 1000 * rate_hz)) / rate_hz + 0.0002
    is_sampled = ~((times > 2) & (times < 3))
    is_sampled[round(4.5 * rate_hz)] = False
    bins = bin_behavior(series(times[is_sampled], slow(times)[is_sampled]), ALL, N_MS, 5)
    missing = np.isnan(bins).all(axis=1)
    at = np.arange(0, N_MS, 5) / 1000
    assert missing[(at > 2.02) & (at < 2.98)].all()
    assert not missing[(at > 0.02) & (at < 1.98)].any()
    assert not missing[(at > 3.02) & (at < 5.9)].any()


def test_missing_samples_of_a_slow_series_are_gaps() -> None:
    times = np.arange(600) / 100
    data = slow(times)
    data[200:300, 0] = np.nan
    bins = bin_behavior(series(times, data), ALL, N_MS, 5)
    assert np.isnan(bins[405:595, 0]).all()
    assert np.isfinite(bins[405:595, 1]).all()


def test_precision_is_kept_and_infinity_is_missing() -> None:
    data = np.ones((N_MS, 2), dtype=np.float32)
    data[1000, 0] = np.inf
    bins = bin_behavior(series(np.arange(N_MS) / 1000, data), ALL, N_MS, 5)
    assert bins.dtype == np.float32
    assert np.argwhere(np.isnan(bins)).tolist() == [[200, 0]]


def test_columns_are_selected_in_the_given_order() -> None:
    times = np.arange(N_MS) / 1000
    in_order = bin_behavior(series(times, slow(times)), ALL, N_MS, 20)
    swapped = bin_behavior(series(times, slow(times)), BehaviorSpec("hand_vel", columns=[1, 0]), N_MS, 20)
    np.testing.assert_array_equal(swapped, in_order[:, ::-1])


@pytest.mark.parametrize("columns", [[2], [-1], []])
def test_unknown_columns_raise(columns: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"has the columns 0..1 \(x, y\)"):
        bin_behavior(series(np.arange(9) / 1000, np.zeros((9, 2))), BehaviorSpec("hand_vel", columns=columns), 9, 5)


@pytest.mark.parametrize("step", [0.001, 0.01])
def test_column_without_values_raises(step: float) -> None:
    data = np.zeros((50, 2))
    data[:, 1] = np.nan
    with pytest.raises(DataError, match="hand_vel has no value in column 1"):
        bin_behavior(series(np.arange(50) * step, data), ALL, 50, 5)


def test_windows_are_lagged_and_missing_outside_the_recording() -> None:
    bins = np.arange(10.0)[:, None]
    lagged = np.array([-2, 3, 8])
    windows = Windows(np.arange(3), lagged - 1, lagged, lagged, np.zeros(3, dtype=int), WindowShape(3, 1, 5), 3)
    cut = slice_behavior(bins, windows)
    assert cut.dtype == np.float32
    np.testing.assert_array_equal(cut[..., 0], [[np.nan, np.nan, 0, 1], [3, 4, 5, 6], [8, 9, np.nan, np.nan]])
