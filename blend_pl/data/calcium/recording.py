"""One calcium recording as it was read, on the frames of the microscope."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.calcium.spec import STATES
from blend_pl.errors import DataError

LONGEST_GAP_S = 1.0
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
        states: how many of the D channels are states.
        cell: (N,) str; equal for the same cell in other recordings, unique otherwise.
        identified: (N,) bool, whether that name holds for other days too.
        label: (N,) str, the transcriptomic label as it is in the file.
        position: (N, P) float32, P = 2 or 3.
    """

    name: str
    mouse: str
    times: np.ndarray
    activity: np.ndarray
    behavior: np.ndarray
    states: int
    cell: np.ndarray
    identified: np.ndarray
    label: np.ndarray
    position: np.ndarray


def require_increasing(times: np.ndarray, where: str) -> None:
    """Checks that time goes on.

    Args:
        times: (samples,) s.
        where: the file, for the error.

    Raises:
        DataError: times are not finite, out of order or repeated.
    """
    ordered = np.diff(times) > 0
    if not ordered.all():
        at = int(np.argmin(ordered))
        raise DataError(
            f"{where} has time stamps out of order (sample {at + 1} at {times[at + 1]:g} s follows {times[at]:g} s); "
            "sort them, or leave this recording out of data.spec.recordings"
        )
    if not np.isfinite(times).all():
        raise DataError(f"{where} has time stamps that are not finite; repair them")


def at_frames(times: np.ndarray, values: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Interpolates a series linearly onto the frames, by time stamps.

    Args:
        times: (samples,) s, increasing.
        values: (samples,), NaN where missing.
        frames: (T,) s.

    Returns:
        (T,) float32; NaN before the first and after the last sample, and across gaps longer than a second.
    """
    known = np.isfinite(values)
    times, values = times[known], values[known]
    if not len(times):
        return np.full(len(frames), np.nan, dtype=np.float32)
    result = np.interp(frames, times, values, left=np.nan, right=np.nan)
    after = np.searchsorted(times, frames).clip(max=len(times) - 1)
    before = (np.searchsorted(times, frames, side="right") - 1).clip(min=0)
    result[times[after] - times[before] > LONGEST_GAP_S] = np.nan
    return result.astype(np.float32)


def one_hot(states: np.ndarray, where: str) -> np.ndarray:
    """A channel for each behavioural state.

    Args:
        states: (T,) 0, 1 or 2; NaN where unknown.
        where: the file, for the error.

    Returns:
        (T, 3) float32, NaN where unknown.

    Raises:
        DataError: a state that is none of these.
    """
    known = np.isfinite(states)
    strange = known & ~np.isin(states, range(len(STATES)))
    if strange.any():
        names = ", ".join(f"{number} {name}" for number, name in enumerate(STATES))
        raise DataError(f"{where} has the state {states[strange][0]:g}; there are {names}")
    channels = (states[:, None] == np.arange(len(STATES))).astype(np.float32)
    channels[~known] = np.nan
    return channels
