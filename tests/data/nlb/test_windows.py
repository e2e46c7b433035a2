"""Tests of windows on the grid of bins."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blend_pl.data.nlb.binning import Intervals
from blend_pl.data.nlb.spec import WindowSpec
from blend_pl.data.nlb.windows import WindowShape, continuous_windows, trial_windows
from blend_pl.errors import ConfigError, DataError

AROUND = WindowSpec(-250, 450, align="move_onset_time")


@pytest.mark.parametrize(
    ("window", "bin_ms", "message"),
    [
        (WindowSpec(0, 600), 5, "need window.stride_ms"),
        (WindowSpec(0, 600, stride_ms=0), 5, "need window.stride_ms"),
        (WindowSpec(100, 600, stride_ms=300), 5, "start_ms is 100"),
        (WindowSpec(0, 600, align="start_time", stride_ms=300), 5, "set only one"),
        (WindowSpec(450, -250, align="start_time"), 5, "empty or negative"),
        (WindowSpec(0, 600, align="start_time", forward_ms=-5), 5, "empty or negative"),
        (WindowSpec(0, 603, align="start_time"), 5, "length of 603 ms is not a multiple"),
        (WindowSpec(0, 600, align="start_time", forward_ms=201), 5, "forward_ms of 201 ms is not a multiple"),
        (WindowSpec(0, 600, stride_ms=301), 5, "stride_ms of 301 ms is not a multiple"),
        (AROUND, 0, "bin_ms is 0"),
    ],
)
def test_contradictory_windows_raise(window: WindowSpec, bin_ms: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WindowShape.from_window(window, bin_ms)


def test_numbers_of_bins() -> None:
    shape = WindowShape.from_window(AROUND, 20)
    assert (shape.n_observed, shape.n_forward, shape.n_bins) == (35, 10, 45)


@given(st.integers(1_000_000, 9_000_000), st.sampled_from([5, 20]), st.integers(-140, 140))
def test_trial_windows_and_lagged_windows_are_rounded_up_separately(us: int, bin_ms: int, lag_ms: int) -> None:
    windows = trial_windows(AROUND, WindowShape.from_window(AROUND, bin_ms), np.array([us / 1e6]), lag_ms)
    bin_us = bin_ms * 1000
    for bins, offset_ms in ((windows.start, -250), (windows.behavior_start, -250 + lag_ms), (windows.event, 0)):
        exact = us + offset_ms * 1000
        assert bins[0] * bin_us - bin_us < exact <= bins[0] * bin_us


def test_trials_without_event_have_no_window() -> None:
    windows = trial_windows(AROUND, WindowShape.from_window(AROUND, 5), np.array([1.0, np.nan, 2.0]), 100)
    assert windows.row.tolist() == [0, 2]
    assert windows.n_rows == 3
    assert windows.select(np.array([False, True])).start.tolist() == [350]


def test_text_column_as_event_raises() -> None:
    with pytest.raises(DataError, match="has no times"):
        trial_windows(AROUND, WindowShape.from_window(AROUND, 5), np.array(["train"]), 0)


@given(
    borders=st.lists(st.integers(0, 4000), min_size=2, max_size=8, unique=True).map(sorted),
    stride=st.integers(1, 8),
    bin_ms=st.sampled_from([5, 20]),
)
def test_continuous_windows_fill_each_interval(borders: list[int], stride: int, bin_ms: int) -> None:
    intervals = np.array(borders[: len(borders) // 2 * 2]).reshape(-1, 2) / 1000
    window = WindowSpec(0, 100, forward_ms=40, stride_ms=stride * 20)
    shape = WindowShape.from_window(window, bin_ms)
    stretches = Intervals.from_intervals(intervals, 4000)
    first_bins = -(-stretches.starts // bin_ms)
    room = -(-stretches.stops // bin_ms) - first_bins
    expected = np.maximum((room - shape.n_bins) // (stride * 20 // bin_ms) + 1, 0)
    assume(expected.sum() > 0 and (np.diff(stretches.starts) > 40).all() and (room > 0).all())
    assume((stretches.starts[1:] - stretches.stops[:-1] >= bin_ms).all())

    windows = continuous_windows(window, shape, [stretches], 4000, 20)
    assert len(windows) == expected.sum()
    ms = (windows.start[:, None] + np.arange(shape.n_bins)) * bin_ms
    stretch = stretches.interval_index(ms)
    assert (stretch >= 0).all()
    assert (stretch == stretch[:, :1]).all()
    assert set(first_bins[expected > 0]) <= set(windows.start)
    np.testing.assert_array_equal(windows.behavior_start - windows.start, 20 // bin_ms)


def test_window_longer_than_all_intervals_raises() -> None:
    window = WindowSpec(0, 600, forward_ms=200, stride_ms=300)
    stretches = Intervals.from_intervals(np.array([[0.0, 0.5], [0.6, 1.3]]), 1300)
    with pytest.raises(DataError, match=r"no window of 800 ms fits .* has 700 ms"):
        continuous_windows(window, WindowShape.from_window(window, 5), [stretches], 1300, 0)
