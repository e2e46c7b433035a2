"""Time stamps: whether samples are regular, and velocity in bins from what is not."""

import h5py
import numpy as np

from blend_pl.data.calcium.recording import at_frames
from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.errors import DataError

MIN_OVERLAP = 0.5
"""Two files of one session share at least so much of the shorter one's time."""

CHECKED_STAMPS = 257
LARGEST_JUMP_S = 0.005
"""By which a time stamp may lie beside where equal steps put it."""


def regular(stamps: h5py.Dataset | np.ndarray, where: str) -> tuple[float, float]:
    """Start and rate of samples in equal steps, looked at here and there alone because there may be many millions.

    Args:
        stamps: (samples,) or (samples, 1) or (1, samples) s.
        where: the file, for the error.

    Raises:
        DataError: they are not in equal steps: something was left out in between, or they are not finite.
    """
    n = stamps.size
    places = np.unique(np.linspace(0, n - 1, CHECKED_STAMPS).astype(np.int64))
    axis = int(np.argmax(stamps.shape))
    seen = np.array([np.asarray(stamps[(0,) * axis + (k,)]).reshape(-1)[0] for k in places], dtype=np.float64)
    start, step = seen[0], (seen[-1] - seen[0]) / (n - 1)
    off = np.abs(seen - start - places * step)
    if not step > 0 or not off.max() <= max(LARGEST_JUMP_S, 2 * step):
        raise DataError(
            f"{where} has samples in unequal steps ({np.nan_to_num(off, nan=np.inf).max():.3g} s off); choose a "
            "recording without pauses, or cut it where it pauses"
        )
    return float(start), 1 / step


def shared_bins(first: tuple[float, float], second: tuple[float, float], names: tuple[str, str]) -> tuple[float, int]:
    """Start and number of the bins that lie in both of two signals.

    Args:
        first: s, when one starts and stops.
        second: the same of the other.
        names: what to call them.

    Raises:
        DataError: they have too little in common to be of one session.
    """
    start, stop = max(first[0], second[0]), min(first[1], second[1])
    n_bins = int((stop - start) * 1000 / BIN_MS + 1e-6)
    if n_bins < 1 or stop - start < MIN_OVERLAP * min(first[1] - first[0], second[1] - second[0]):
        raise DataError(
            f"the clocks of {names[0]} ({first[0]:.1f} to {first[1]:.1f} s) and {names[1]} ({second[0]:.1f} to "
            f"{second[1]:.1f} s) do not agree; see that both are of one session"
        )
    return start, n_bins


def velocity_of(times: np.ndarray, position: np.ndarray, start: float, n_bins: int) -> np.ndarray:
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
    moved = np.stack([np.diff(at_frames(times - start, column, edges - start)) for column in position.T], axis=1)
    return moved * np.float32(1000 / BIN_MS)


def velocity_at(times: np.ndarray, velocity: np.ndarray, start: float, n_bins: int) -> np.ndarray:
    """A measured velocity at the bins' centres; arguments and result as in `velocity_of`."""
    centres = (np.arange(n_bins) + 0.5) * BIN_MS / 1000
    return np.stack([at_frames(times - start, column, centres) for column in velocity.T], axis=1)


def require_times(times: np.ndarray, where: str) -> None:
    """Checks that time goes on.

    Raises:
        DataError: times are not finite, out of order or repeated.
    """
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        raise DataError(f"{where} has times of behaviour that are out of order, repeated or not finite; repair them")


def require_known(behavior: np.ndarray, where: str) -> np.ndarray:
    """Behaviour as it is, if there is any.

    Raises:
        DataError: nothing is known in any bin.
    """
    if not np.isfinite(behavior).any():
        raise DataError(f"{where} has no behaviour in the time of its recording, only NaN; leave this session out")
    return behavior
