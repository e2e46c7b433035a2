"""Clocks of recordings: checks of regular sampling, common bins, and velocity in bins."""

import h5py
import numpy as np

from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.data.resample import interpolate_to_frames, smooth_gaussian
from blend_pl.errors import DataError

MIN_OVERLAP_FRACTION = 0.5
"""Minimum overlap of two signals of one session, as a fraction of the shorter one."""

_CHUNK = 1 << 20
MAX_TIMESTAMP_ERROR_S = 0.005
"""Maximum deviation of a timestamp from regular sampling."""


def check_regular_sampling(timestamps: h5py.Dataset | np.ndarray, where: str) -> tuple[float, float]:
    """Returns start and sampling rate of regular timestamps; reads them in chunks, because there can be many millions.

    Args:
        timestamps: (samples,) or (samples, 1) or (1, samples) s.
        where: the file, for errors.

    Raises:
        DataError: the timestamps are not regular, for example because of a pause, or not finite.
    """
    n = timestamps.size
    start, last = (float(_read_times(timestamps, k, k + 1)[0]) for k in (0, n - 1))
    step = (last - start) / (n - 1)
    largest, sample, is_float32 = 0.0, 0, True
    for first in range(0, n, _CHUNK):
        times = _read_times(timestamps, first, min(first + _CHUNK, n))
        deviation = np.abs(times - start - np.arange(first, first + len(times)) * step)
        deviation[np.isnan(deviation)] = np.inf
        # Writers may convert float32 to float64, which does not restore the digits.
        is_float32 = is_float32 and bool((times == times.astype(np.float32)).all())
        if deviation.max() > largest:
            largest, sample = float(deviation.max()), first + int(deviation.argmax())
    if not step > 0 or not largest <= max(MAX_TIMESTAMP_ERROR_S, 2 * step):
        resolution = float(np.spacing(np.float32(np.nan_to_num(max(abs(start), abs(last))))))
        if (is_float32 or timestamps.dtype == np.float32) and resolution > MAX_TIMESTAMP_ERROR_S / 4:
            raise DataError(
                f"{where} has timestamps of type float32, which resolves {resolution:.2g} s at {last:g} s; "
                "write them as float64, or a starting_time and a rate"
            )
        raise DataError(
            f"{where} is sampled irregularly (by {largest:.3g} s), most at sample {sample}; choose a recording without "
            "pauses, or split it at the pauses"
        )
    return start, 1 / step


def _read_times(timestamps: h5py.Dataset | np.ndarray, first: int, stop: int) -> np.ndarray:
    axis = int(np.argmax(timestamps.shape))
    times: np.ndarray = np.asarray(timestamps[(slice(None),) * axis + (slice(first, stop),)], dtype=np.float64)
    return times.reshape(-1)


def overlapping_bins(
    first_span: tuple[float, float], second_span: tuple[float, float], names: tuple[str, str]
) -> tuple[float, int]:
    """Returns start and number of the bins that are in both of two signals.

    Args:
        first_span: start and stop of the first signal, s.
        second_span: start and stop of the second signal, s.
        names: names of the signals, for errors.

    Raises:
        DataError: the overlap is too short for two signals of the same session.
    """
    start, stop = max(first_span[0], second_span[0]), min(first_span[1], second_span[1])
    n_bins = int((stop - start) * 1000 / BIN_MS + 1e-6)
    if n_bins < 1 or stop - start < MIN_OVERLAP_FRACTION * min(
        first_span[1] - first_span[0], second_span[1] - second_span[0]
    ):
        raise DataError(
            f"the clocks of {names[0]} ({first_span[0]:.1f} to {first_span[1]:.1f} s) and {names[1]} "
            f"({second_span[0]:.1f} to {second_span[1]:.1f} s) do not agree; check that both are of the same session"
        )
    return start, n_bins


def velocity_from_position(
    times: np.ndarray, position: np.ndarray, start: float, n_bins: int, smoothing_ms: float = 0.0
) -> np.ndarray:
    """Computes the mean velocity within each bin, smoothed over bins.

    Args:
        times: (samples,) s, increasing.
        position: (samples, D), NaN where missing; gaps of up to a second are interpolated.
        start: start of the first bin, s.
        n_bins: T.
        smoothing_ms: standard deviation of the Gaussian kernel; 0 for none.

    Returns:
        (T, D) float32, in the position's unit per second; NaN where missing.
    """
    edges = start + np.arange(n_bins + 1) * BIN_MS / 1000
    displacement = np.stack(
        [np.diff(interpolate_to_frames(times - start, column, edges - start)) for column in position.T], axis=1
    )
    return smooth_gaussian(displacement * np.float32(1000 / BIN_MS), smoothing_ms / BIN_MS)


def resample_velocity(times: np.ndarray, velocity: np.ndarray, start: float, n_bins: int) -> np.ndarray:
    """Interpolates a velocity at the centers of bins; arguments and result as in `velocity_from_position`."""
    centers = (np.arange(n_bins) + 0.5) * BIN_MS / 1000
    return np.stack([interpolate_to_frames(times - start, column, centers) for column in velocity.T], axis=1)


def require_finite_behavior(behavior: np.ndarray, where: str) -> np.ndarray:
    """Returns the behavior unchanged.

    Raises:
        DataError: the behavior is missing in all bins.
    """
    if not np.isfinite(behavior).any():
        raise DataError(f"{where} has no behavior during its recording, only NaN; leave this session out")
    return behavior
