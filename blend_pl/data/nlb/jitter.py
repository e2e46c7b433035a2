"""Random shifts of windows, equal to those of nlb_tools (Pei et al., 2021)."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.data.nlb.spec import WindowSpec
from blend_pl.data.nlb.windows import Windows

JitterGroups = tuple[tuple[str, ...], ...]
"""Groups of splits with one random draw each, in recording order; other splits are not shifted."""

JITTER_GROUPS: dict[str, JitterGroups] = {"val": (("train",), ("val",)), "test": (("train", "val"),)}
"""Groups for each phase of the data module."""


def apply_jitter(
    window: WindowSpec,
    windows: Windows,
    labels: np.ndarray,
    trials: Columns,
    jitter_groups: JitterGroups,
    table_label: str,
) -> Windows:
    """Shifts windows later by random numbers of bins, so that the interval before the event stays inside the window.

    Args:
        window: its `jitter` describes the shifts; None for no shifts.
        windows: n windows.
        labels: (n,) split of each window.
        trials: the trials table.
        jitter_groups: groups of splits with one random draw each.
        table_label: table and file, for error messages.

    Raises:
        DataError: the table lacks the column of intervals.
    """
    if window.jitter is None:
        return windows
    interval_ms = require_column(trials, window.jitter.interval, "window.jitter.interval", table_label)[
        windows.row
    ].astype(np.float64)
    max_shift_ms = np.clip(window.stop_ms - window.start_ms - interval_ms, 0.0, window.jitter.max_ms)
    max_shift_bins = np.floor(np.round(np.nan_to_num(max_shift_ms, nan=0.0) / windows.shape.bin_ms, 4))
    shift_bins = np.zeros(len(windows))
    for splits in jitter_groups:
        in_group = np.isin(labels, splits)
        # nlb_tools seeds the legacy generator of NumPy for each draw.
        shift_bins[in_group] = (
            np.random.RandomState(window.jitter.seed).random_sample(in_group.sum()) * max_shift_bins[in_group]
        )
    return windows.shifted(np.rint(shift_bins).astype(np.int64))
