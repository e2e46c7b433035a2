"""One calcium recording as it was read, on the frames of the microscope."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.calcium.spec import BEHAVIOR_STATES
from blend_pl.errors import DataError

MAX_GAP_S = 1.0
"""Behaviour is not interpolated across longer gaps."""


@dataclass(frozen=True)
class CalciumRecording:
    """T frames of N cells.

    Attributes:
        name: where it comes from, for people.
        mouse: the animal.
        times: (T,) float64 s, increasing.
        activity: (T, N) float32, in the file's unit; NaN where missing.
        behavior: (T, D) float32, in the file's unit, continuous channels before one channel a state; NaN where missing.
        n_states: how many of the D channels are states.
        cell_id: (N,) str; equal for the same cell in other recordings, unique otherwise.
        identified: (N,) bool, whether that name holds for other days too.
        label: (N,) str, the transcriptomic label as it is in the file.
        position: (N, P) float32, P = 2 or 3.
    """

    name: str
    mouse: str
    times: np.ndarray
    activity: np.ndarray
    behavior: np.ndarray
    n_states: int
    cell_id: np.ndarray
    identified: np.ndarray
    label: np.ndarray
    position: np.ndarray


def require_increasing(times: np.ndarray, source: str) -> None:
    """Checks that time goes on.

    Args:
        times: (samples,) s.
        source: the file, for the error.

    Raises:
        DataError: times are not finite, out of order or repeated.
    """
    ordered = np.diff(times) > 0
    if not ordered.all():
        sample = int(np.argmin(ordered))
        raise DataError(
            f"{source} has time stamps out of order (sample {sample + 1} at {times[sample + 1]:g} s follows {times[sample]:g} s); "
            "sort them, or leave this recording out of data.spec.recordings"
        )
    if not np.isfinite(times).all():
        raise DataError(f"{source} has time stamps that are not finite; repair them")


def interpolate_to_frames(times: np.ndarray, values: np.ndarray, frame_times: np.ndarray) -> np.ndarray:
    """Interpolates a series linearly onto the frames, by time stamps.

    Args:
        times: (samples,) s, increasing.
        values: (samples,), NaN where missing.
        frame_times: (T,) s.

    Returns:
        (T,) float32; NaN before the first and after the last sample, and across gaps longer than a second.
    """
    is_finite = np.isfinite(values)
    times, values = times[is_finite], values[is_finite]
    if not len(times):
        return np.full(len(frame_times), np.nan, dtype=np.float32)
    interpolated = np.interp(frame_times, times, values, left=np.nan, right=np.nan)
    next_sample = np.searchsorted(times, frame_times).clip(max=len(times) - 1)
    previous_sample = (np.searchsorted(times, frame_times, side="right") - 1).clip(min=0)
    interpolated[times[next_sample] - times[previous_sample] > MAX_GAP_S] = np.nan
    return interpolated.astype(np.float32)


def one_hot_states(states: np.ndarray, source: str) -> np.ndarray:
    """A channel for each behavioural state.

    Args:
        states: (T,) 0, 1 or 2; NaN where unknown.
        source: the file, for the error.

    Returns:
        (T, 3) float32, NaN where unknown.

    Raises:
        DataError: a state that is none of these.
    """
    is_known = np.isfinite(states)
    is_invalid = is_known & ~np.isin(states, range(len(BEHAVIOR_STATES)))
    if is_invalid.any():
        valid_states = ", ".join(f"{number} {name}" for number, name in enumerate(BEHAVIOR_STATES))
        raise DataError(f"{source} has the state {states[is_invalid][0]:g}; there are {valid_states}")
    channels = (states[:, None] == np.arange(len(BEHAVIOR_STATES))).astype(np.float32)
    channels[~is_known] = np.nan
    return channels
