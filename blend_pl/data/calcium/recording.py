"""One calcium recording, with behavior at the frames of the microscope."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.calcium.spec import BEHAVIOR_STATES
from blend_pl.errors import DataError


@dataclass(frozen=True)
class CalciumRecording:
    """T frames of N cells.

    Attributes:
        name: name of the run or session, for messages.
        mouse: the animal.
        times: (T,) float64 s, increasing.
        activity: (T, N) float32, in the file's unit; NaN where missing.
        behavior: (T, D) float32: continuous channels in the file's unit, then one channel per state; NaN where missing.
        n_states: number of channels that are states.
        cell_id: (N,) str ids; equal for the same cell in other recordings, unique otherwise.
        identified: (N,) bool, whether the id is valid across days.
        label: (N,) str, the transcriptomic label in the file.
        position: (N, P) float32, P = 2 or 3.
        notes: a line on each part of the recording that is left out or missing.
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
    notes: tuple[str, ...] = ()


def one_hot_states(states: np.ndarray, source: str) -> np.ndarray:
    """Encodes behavioral states as one channel per state.

    Args:
        states: (T,) 0, 1 or 2; NaN where unknown.
        source: the file, for errors.

    Returns:
        (T, 3) float32, 0 or 1; NaN where unknown.

    Raises:
        DataError: a state is not 0, 1, 2 or NaN.
    """
    is_known = np.isfinite(states)
    is_invalid = is_known & ~np.isin(states, range(len(BEHAVIOR_STATES)))
    if is_invalid.any():
        valid_states = ", ".join(f"{number} {name}" for number, name in enumerate(BEHAVIOR_STATES))
        raise DataError(f"{source} has the state {states[is_invalid][0]:g}; the valid states are {valid_states}")
    channels: np.ndarray = (states[:, None] == np.arange(len(BEHAVIOR_STATES))).astype(np.float32)
    channels[~is_known] = np.nan
    return channels
