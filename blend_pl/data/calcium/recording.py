"""One calcium recording as it was read, on the frames of the microscope."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.calcium.spec import BEHAVIOR_STATES
from blend_pl.errors import DataError


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
