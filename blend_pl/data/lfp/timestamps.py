"""Time stamps: whether samples are regular, and velocity in bins from what is not."""

import h5py
import numpy as np

from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.data.resample import interpolate_to_frames
from blend_pl.errors import DataError

MIN_OVERLAP_FRACTION = 0.5
"""Two files of one session share at least so much of the shorter one's time."""

N_CHECKED_TIMESTAMPS = 257
MAX_TIMESTAMP_ERROR_S = 0.005
"""By which a time stamp may lie beside where equal steps put it."""


def check_regular_sampling(timestamps: h5py.Dataset | np.ndarray, where: str) -> tuple[float, float]:
    """Start and rate of samples in equal steps, looked at here and there alone because there may be many millions.

    Args:
        timestamps: (samples,) or (samples, 1) or (1, samples) s.
        where: the file, for the error.

    Raises:
        DataError: they are not in equal steps: something was left out in between, or they are not finite.
    """
    n = timestamps.size
    indices = np.unique(np.linspace(0, n - 1, N_CHECKED_TIMESTAMPS).astype(np.int64))
    axis = int(np.argmax(timestamps.shape))
    checked = np.array([np.asarray(timestamps[(0,) * axis + (k,)]).reshape(-1)[0] for k in indices], dtype=np.float64)
    start, step = checked[0], (checked[-1] - checked[0]) / (n - 1)
    deviation = np.abs(checked - start - indices * step)
    if not step > 0 or not deviation.max() <= max(MAX_TIMESTAMP_ERROR_S, 2 * step):
        raise DataError(
            f"{where} has samples in unequal steps ({np.nan_to_num(deviation, nan=np.inf).max():.3g} s off); choose a "
            "recording without pauses, or cut it where it pauses"
        )
    return float(start), 1 / step


def overlapping_bins(
    first_span: tuple[float, float], second_span: tuple[float, float], names: tuple[str, str]
) -> tuple[float, int]:
    """Start and number of the bins that lie in both of two signals.

    Args:
        first_span: s, when one starts and stops.
        second_span: the same of the other.
        names: what to call them.

    Raises:
        DataError: they have too little in common to be of one session.
    """
    start, stop = max(first_span[0], second_span[0]), min(first_span[1], second_span[1])
    n_bins = int((stop - start) * 1000 / BIN_MS + 1e-6)
    if n_bins < 1 or stop - start < MIN_OVERLAP_FRACTION * min(
        first_span[1] - first_span[0], second_span[1] - second_span[0]
    ):
        raise DataError(
            f"the clocks of {names[0]} ({first_span[0]:.1f} to {first_span[1]:.1f} s) and {names[1]} ({second_span[0]:.1f} to "
            f"{second_span[1]:.1f} s) do not agree; see that both are of one session"
        )
    return start, n_bins


def velocity_from_position(times: np.ndarray, position: np.ndarray, start: float, n_bins: int) -> np.ndarray:
    """Mean velocity within each bin.

    Args:
        times: (samples,) s, increasing.
        position: (samples, D), NaN where missing; bridged for up to a second.
        start: s, where the first bin starts.
        n_bins: T.

    Returns:
        (T, D) float32 a second, NaN where missing.
    """
    edges = start + np.arange(n_bins + 1) * BIN_MS / 1000
    displacement = np.stack(
        [np.diff(interpolate_to_frames(times - start, column, edges - start)) for column in position.T], axis=1
    )
    return displacement * np.float32(1000 / BIN_MS)


def resample_velocity(times: np.ndarray, velocity: np.ndarray, start: float, n_bins: int) -> np.ndarray:
    """A measured velocity at the bins' centres; arguments and result as in `velocity_from_position`."""
    centres = (np.arange(n_bins) + 0.5) * BIN_MS / 1000
    return np.stack([interpolate_to_frames(times - start, column, centres) for column in velocity.T], axis=1)


def require_finite_behavior(behavior: np.ndarray, where: str) -> np.ndarray:
    """Behaviour as it is, if there is any.

    Raises:
        DataError: nothing is known in any bin.
    """
    if not np.isfinite(behavior).any():
        raise DataError(f"{where} has no behaviour in the time of its recording, only NaN; leave this session out")
    return behavior
