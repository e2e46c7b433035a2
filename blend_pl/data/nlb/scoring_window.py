"""Bins of each window that are scored."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.data.nlb.binning import ceil_to_bin, to_ns
from blend_pl.data.nlb.coverage import relative_seconds
from blend_pl.data.nlb.spec import ScoringWindow
from blend_pl.data.nlb.windows import Windows
from blend_pl.errors import DataError

_NS_PER_US = 1000


def scoring_bounds(
    scoring_window: ScoringWindow | None, windows: Windows, trials: Columns, table_label: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first scored bin and the bin after the last one, on the session grid.

    As in nlb_tools a bin is scored if it starts at or after `start`, and at least a microsecond before `stop`.

    Args:
        scoring_window: names the trials columns; None to score whole windows.
        windows: n windows.
        trials: the trials table.
        table_label: table and file, for error messages.

    Returns:
        (n,) and (n,) bins, possibly outside the window.

    Raises:
        DataError: a column is missing, a trial lacks a time, or most trials stop before they start.
    """
    if scoring_window is None:
        return windows.start, windows.start + windows.shape.n_observed
    bounds_ns = []
    for key, name in (("start", scoring_window.start), ("stop", scoring_window.stop)):
        seconds = require_column(trials, name, f"scoring_window.{key}", table_label)[windows.row].astype(np.float64)
        missing = np.flatnonzero(~np.isfinite(seconds))
        if len(missing):
            raise DataError(
                f"{table_label} has no {name} in row {windows.row[missing[0]]}; set that trial's split to none, or, "
                f"without a split column, its time of window.align to NaN ({len(missing)} of {len(seconds)} trials)"
            )
        bounds_ns.append(to_ns(relative_seconds(seconds, windows.start_s)))
    is_empty = bounds_ns[1] <= bounds_ns[0]
    if is_empty.sum() > 0.5 * len(is_empty):
        raise DataError(
            f"{table_label} has {is_empty.sum()} of {len(is_empty)} trials with {scoring_window.stop} at or before "
            f"{scoring_window.start}, in which no bin is scored; exchange scoring_window.start and scoring_window.stop"
        )
    bin_ms = windows.shape.bin_ms
    return ceil_to_bin(bounds_ns[0], bin_ms), ceil_to_bin(bounds_ns[1] - _NS_PER_US + 1, bin_ms)


def scoring_mask_from_bounds(bounds: tuple[np.ndarray, np.ndarray], windows: Windows) -> np.ndarray:
    """Returns the (n, T) bool mask of the bins between the bounds of each window."""
    bins = windows.start[:, None] + np.arange(windows.shape.n_observed)
    return (bins >= bounds[0][:, None]) & (bins < bounds[1][:, None])
