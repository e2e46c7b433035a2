"""Random shifts of windows, drawn as nlb_tools draws them (Pei et al., 2021)."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require
from blend_pl.data.nlb.spec import Window
from blend_pl.data.nlb.windows import Windows

Together = tuple[tuple[str, ...], ...]
"""Splits whose shifts are drawn together, in the order of the recording; other splits are not shifted."""

TOGETHER: dict[str, Together] = {"val": (("train",), ("val",)), "test": (("train", "val"),)}
"""By phase."""


def jittered(
    window: Window, windows: Windows, labels: np.ndarray, trials: Columns, together: Together, where: str
) -> Windows:
    """Shifts windows later, each as far as its interval before the event allows.

    Args:
        window: says how windows are shifted; without `jitter` they stay.
        windows: n windows.
        labels: (n,) split of each.
        trials: the trials table.
        together: splits whose shifts are drawn together.
        where: the table and file, for errors.

    Raises:
        DataError: the table lacks the column of intervals.
    """
    if window.jitter is None:
        return windows
    interval = require(trials, window.jitter.interval, "window.jitter.interval", where)[windows.row].astype(np.float64)
    room_ms = np.clip(window.stop_ms - window.start_ms - interval, 0.0, window.jitter.most_ms)
    room = np.floor(np.round(np.nan_to_num(room_ms, nan=0.0) / windows.shape.bin_ms, 4))
    shift = np.zeros(len(windows))
    for splits in together:
        drawn = np.isin(labels, splits)
        # nlb_tools seeds numpy's own generator anew for each draw.
        shift[drawn] = np.random.RandomState(window.jitter.seed).random_sample(drawn.sum()) * room[drawn]
    return windows.shifted(np.rint(shift).astype(np.int64))
