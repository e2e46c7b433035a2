"""Random shifts of windows, drawn as nlb_tools draws them (Pei et al., 2021)."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.data.nlb.spec import WindowSpec
from blend_pl.data.nlb.windows import Windows

JitterGroups = tuple[tuple[str, ...], ...]
"""Splits whose shifts are drawn together, in the order of the recording; other splits are not shifted."""

JITTER_GROUPS: dict[str, JitterGroups] = {"val": (("train",), ("val",)), "test": (("train", "val"),)}
"""By phase."""


def apply_jitter(
    window: WindowSpec,
    windows: Windows,
    labels: np.ndarray,
    trials: Columns,
    jitter_groups: JitterGroups,
    table_label: str,
) -> Windows:
    """Shifts windows later, each as far as its interval before the event allows.

    Args:
        window: says how windows are shifted; without `jitter` they stay.
        windows: n windows.
        labels: (n,) split of each.
        trials: the trials table.
        jitter_groups: splits whose shifts are drawn together.
        table_label: the table and file, for errors.

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
        # nlb_tools seeds numpy's own generator anew for each draw.
        shift_bins[in_group] = (
            np.random.RandomState(window.jitter.seed).random_sample(in_group.sum()) * max_shift_bins[in_group]
        )
    return windows.shifted(np.rint(shift_bins).astype(np.int64))
