"""The part of each window that is scored."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require
from blend_pl.data.nlb.binning import first_bin, to_ns
from blend_pl.data.nlb.spec import Scored
from blend_pl.data.nlb.windows import Windows
from blend_pl.errors import DataError

_MICROSECOND = 1000


def scored_range(scored: Scored | None, windows: Windows, trials: Columns, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Finds the first bin that counts and the bin after the last, on the session grid.

    As in nlb_tools a bin counts if it starts at or after `start`, and at least a microsecond before `stop`.

    Args:
        scored: names the trials columns; None for whole windows.
        windows: n windows.
        trials: the trials table.
        where: the table and file, for errors.

    Returns:
        (n,) and (n,) bins; they may lie beyond the window.

    Raises:
        DataError: a column is missing, or a trial lacks a time.
    """
    if scored is None:
        return windows.start, windows.start + windows.shape.n_observed
    ns = []
    for key, name in (("start", scored.start), ("stop", scored.stop)):
        seconds = require(trials, name, f"scored.{key}", where)[windows.row].astype(np.float64)
        lost = np.flatnonzero(~np.isfinite(seconds))
        if len(lost):
            raise DataError(f"{where} has no {name} in row {windows.row[lost[0]]}; mark that trial's split none")
        ns.append(to_ns(seconds))
    bin_ms = windows.shape.bin_ms
    return first_bin(ns[0], bin_ms), first_bin(ns[1] - _MICROSECOND + 1, bin_ms)


def scored_bins(bounds: tuple[np.ndarray, np.ndarray], windows: Windows) -> np.ndarray:
    """(n, T) bool, the bins of each window between its bounds."""
    bins = windows.start[:, None] + np.arange(windows.shape.n_observed)
    return (bins >= bounds[0][:, None]) & (bins < bounds[1][:, None])
