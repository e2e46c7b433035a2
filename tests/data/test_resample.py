"""Tests of resampling by timestamps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.resample import interpolate_to_frames, require_increasing, smooth_gaussian
from blend_pl.errors import DataError


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 0.2), st.integers(0, 2**31))
def test_straight_line_is_reproduced_at_any_times(slope: float, start: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.01, 0.3, 80))
    frames = np.arange(times[0] + shift, times[-1], 0.23344)
    np.testing.assert_allclose(
        interpolate_to_frames(times, start + slope * times, frames), start + slope * frames, atol=1e-4
    )


def test_short_gaps_are_interpolated_and_long_ones_are_missing() -> None:
    times = np.arange(0, 10, 0.1)
    values = times.copy()
    values[(times > 2) & (times < 2.8)] = np.nan
    values[(times > 5) & (times < 6.5)] = np.nan
    interpolated = interpolate_to_frames(times, values, np.array([2.5, 4.0, 5.05, 5.8, 6.45, 7.0]))
    np.testing.assert_allclose(interpolated, [2.5, 4.0, np.nan, np.nan, np.nan, 7.0], atol=1e-6)


def test_times_outside_the_series_are_missing() -> None:
    interpolated = interpolate_to_frames(
        np.array([1.0, 1.5, 2.0]), np.array([7.0, 8.0, 9.0]), np.array([0.9, 1.0, 2.0, 2.1])
    )
    np.testing.assert_array_equal(interpolated, np.array([np.nan, 7, 9, np.nan], np.float32))


def test_series_without_values_is_missing() -> None:
    assert np.isnan(interpolate_to_frames(np.arange(3.0), np.full(3, np.nan), np.arange(3.0))).all()


@pytest.mark.parametrize(
    ("times", "message"),
    [([0, 2, 1], r"out of order \(sample 2 at 1 s"), ([0, 1, 1], "out of order"), ([0, 1, np.inf], "not finite")],
)
def test_times_that_do_not_increase_raise(times: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        require_increasing(np.array(times), "frame.times.npy")


@pytest.mark.parametrize("sd", [0.0, 1.5, 4.0])
def test_gaussian_smoothing_keeps_constants_and_missing_samples(sd: float) -> None:
    values = np.full((60, 2), 3.0)
    values[20:25, 0] = np.nan
    np.testing.assert_allclose(smooth_gaussian(values, sd), values)


def test_gaussian_smoothing_is_a_convolution_with_the_kernel() -> None:
    impulse = np.zeros((81, 1))
    impulse[40] = 1.0
    kernel = np.exp(-0.5 * ((np.arange(81) - 40) / 3.0) ** 2)
    np.testing.assert_allclose(smooth_gaussian(impulse, 3.0)[:, 0], kernel / kernel.sum(), atol=1e-4)
