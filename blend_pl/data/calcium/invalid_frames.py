"""Frames of a recording that its file declares invalid."""

from pathlib import Path

import numpy as np

from blend_pl.errors import DataError

_TOLERANCE_S = 1e-6
"""Times that differ by less are equal, because they are rounded."""


def valid_frames(times: np.ndarray, invalid_times: np.ndarray, path: Path) -> tuple[np.ndarray, list[str]]:
    """Returns the (T,) mask of frames outside of invalid times, and a note on the share of the others.

    Args:
        times: (T,) s, increasing.
        invalid_times: (rows, 2) s, which may overlap; infinite where open-ended. A frame at the end of one is valid.
        path: the file, for messages.

    Raises:
        DataError: all frames are invalid.
    """
    is_valid = np.ones(len(times), dtype=bool)
    for first, last in np.searchsorted(times + _TOLERANCE_S, invalid_times):
        is_valid[first:last] = False
    n_invalid = int((~is_valid).sum())
    if n_invalid == len(times):
        raise DataError(f"{path} has invalid_times that cover all {n_invalid} frames; correct them, or leave it out")
    if not n_invalid:
        return is_valid, []
    share = 100 * n_invalid / len(times)
    note = f"{path}: {n_invalid} of {len(times)} frames ({share:.2g} %) are in invalid_times and are left out"
    return is_valid, [note]
