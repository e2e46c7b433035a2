"""Resampling of time series by their timestamps."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from blend_pl.errors import DataError

MAX_GAP_S = 1.0
"""Series are not interpolated across longer gaps."""


def require_increasing(times: np.ndarray, source: str) -> None:
    """Checks that timestamps increase.

    Args:
        times: (samples,) s.
        source: names the timestamps in the error message, e.g. a file.

    Raises:
        DataError: a timestamp is not finite, out of order or repeated.
    """
    if not np.isfinite(times).all():
        raise DataError(f"{source} has timestamps that are not finite; repair them, or leave this recording out")
    increasing = np.diff(times) > 0
    if not increasing.all():
        sample = int(np.argmin(increasing))
        raise DataError(
            f"{source} has timestamps that are out of order (sample {sample + 1} at {times[sample + 1]:g} s follows "
            f"{times[sample]:g} s); sort them, or leave this recording out"
        )


def smooth_gaussian(values: np.ndarray, sd_samples: float) -> np.ndarray:
    """Smooths a series with a Gaussian kernel; missing samples count for nothing and stay missing.

    Args:
        values: (samples, D), NaN where missing.
        sd_samples: standard deviation of the kernel in samples; 0 for no smoothing.

    Returns:
        (samples, D) of the same type.
    """
    if not sd_samples:
        return values
    valid = np.isfinite(values)
    total = gaussian_filter1d(np.where(valid, values, 0.0), sd_samples, axis=0, mode="constant")
    weight = gaussian_filter1d(valid.astype(np.float64), sd_samples, axis=0, mode="constant")
    return np.where(valid, total / np.maximum(weight, np.finfo(np.float64).tiny), np.nan).astype(values.dtype)


def interpolate_to_frames(times: np.ndarray, values: np.ndarray, frame_times: np.ndarray) -> np.ndarray:
    """Interpolates a series linearly at the times of frames or bins.

    Args:
        times: (samples,) s, increasing.
        values: (samples,), NaN where missing.
        frame_times: (T,) s.

    Returns:
        (T,) float32; NaN before the first and after the last sample, and across gaps longer than `MAX_GAP_S`.

    Example:
        >>> interpolate_to_frames(np.array([0.0, 0.5]), np.array([0.0, 1.0]), np.array([0.0, 0.25, 0.6]))
        array([0. , 0.5, nan], dtype=float32)
    """
    is_finite = np.isfinite(values)
    times, values = times[is_finite], values[is_finite]
    if not len(times):
        return np.full(len(frame_times), np.nan, dtype=np.float32)
    interpolated = np.interp(frame_times, times, values, left=np.nan, right=np.nan)
    next_sample = np.searchsorted(times, frame_times).clip(max=len(times) - 1)
    previous_sample = (np.searchsorted(times, frame_times, side="right") - 1).clip(min=0)
    interpolated[times[next_sample] - times[previous_sample] > MAX_GAP_S] = np.nan
    return np.asarray(interpolated, dtype=np.float32)


def hold_last_value(times: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Returns the value of the last sample at or before each time, for series that are steps, such as states.

    Args:
        times: (samples,), increasing; the first one may be -inf.
        values: (samples, D) floating point.
        at: (T,) times in the same unit.

    Returns:
        (T, D); rows are NaN before the first sample, and where any of the columns is not finite.

    Example:
        >>> hold_last_value(np.array([1.0, 2.0]), np.array([[5.0], [7.0]]), np.array([0.5, 1.0, 1.9, 3.0]))[:, 0]
        array([nan,  5.,  5.,  7.])
    """
    last = np.searchsorted(times, at, side="right") - 1
    held: np.ndarray = values[np.maximum(last, 0)]
    held[(last < 0) | ~np.isfinite(held).all(axis=1)] = np.nan
    return held
