"""Division of windows into train, val and test."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.data.nlb.spec import SessionSpec, SplitSpec
from blend_pl.data.nlb.windows import Windows
from blend_pl.errors import ConfigError, DataError

SPLITS = ("train", "val", "test")


def check_split(spec: SessionSpec) -> None:
    """Checks that settings do not contradict one another.

    Raises:
        ConfigError: a column without trials, fractions outside 0..1, an invalid `by`, or a draw of overlapping windows.
    """
    split, window = spec.split, spec.window
    if split.column is not None:
        if window.align is None:
            raise ConfigError(
                f"split.column is {split.column!r}, but windows without window.align have no trials; set "
                "split.column: null and split.by: block"
            )
        return
    if split.by not in ("trial", "block"):
        raise ConfigError(f"split.by is {split.by!r}; it must be trial or block")
    check_fractions(split)
    if split.by == "trial" and window.align is None and (window.stride_ms or 0) < window.stop_ms + window.forward_ms:
        raise ConfigError(
            f"windows {window.stride_ms} ms apart overlap, so that random splits would share spikes; set split.by: "
            f"block or window.stride_ms to {window.stop_ms + window.forward_ms} or more"
        )


def check_fractions(split: SplitSpec) -> None:
    """Checks the fractions of training and validation trials.

    Raises:
        ConfigError: a fraction is outside 0..1, or there are no training trials.
    """
    if not (0 < split.train <= 1 and 0 <= split.val <= 1 and split.train + split.val <= 1 + 1e-9):
        raise ConfigError(
            f"split.train is {split.train} and split.val {split.val}; they are fractions of the trials: set train "
            "above 0 and their sum to at most 1"
        )


def read_split_column(
    split: SplitSpec, trials: Columns, event_column: str, event_times: np.ndarray, table_label: str
) -> np.ndarray:
    """Reads the split of every trial from the trials table.

    Args:
        split: names the column.
        trials: the trials table.
        event_column: column of the event to which windows are aligned.
        event_times: (trials,) values of that column.
        table_label: table and file, for error messages.

    Returns:
        (trials,) str: train, val, test or none.

    Raises:
        DataError: no such column, other values, or a trial with a split but without the event.
    """
    assert split.column is not None
    labels = require_column(trials, split.column, "split.column", table_label).astype(str)
    invalid_labels = sorted(set(labels.tolist()) - {*SPLITS, "none"})
    if invalid_labels:
        raise DataError(
            f"{table_label} has the value {invalid_labels[0]!r} in column {split.column!r}; rename it to train, val, "
            "test or none"
        )
    missing_event = np.flatnonzero((labels != "none") & ~np.isfinite(event_times))
    if len(missing_event):
        raise DataError(
            f"{table_label} has {len(missing_event)} trials with a split but without {event_column} (first: row "
            f"{missing_event[0]}, {labels[missing_event[0]]}); set their split to none"
        )
    return labels


def draw_trial_split(split: SplitSpec, n_trials: int) -> np.ndarray:
    """Divides trials at random.

    Args:
        split: fractions of train and val; the others are test.
        n_trials: number of trials.

    Returns:
        (n_trials,) str: train, val or test.
    """
    order = np.random.default_rng(split.seed).permutation(n_trials)
    rank = np.empty(n_trials, dtype=np.int64)
    rank[order] = np.arange(n_trials)
    borders = np.rint(_cumulative_fractions(split) * n_trials).astype(np.int64)
    return np.array(SPLITS)[np.searchsorted(borders, rank, side="right")]


def _cumulative_fractions(split: SplitSpec) -> np.ndarray:
    return np.array([split.train, min(split.train + split.val, 1.0)])


def draw_split(split: SplitSpec, windows: Windows) -> np.ndarray:
    """Divides windows at random or into contiguous blocks of time.

    Args:
        split: fractions of train and val; the others are test.
        windows: all windows.

    Returns:
        (n,) str: train, val, test, or none for a window across the border of a block.
    """
    if split.by == "trial":
        return draw_trial_split(split, len(windows))
    cumulative_fractions = _cumulative_fractions(split)
    if not len(windows):
        return np.empty(0, dtype=str)
    stop = windows.start + windows.shape.n_bins
    begin, end = windows.start.min(), stop.max()
    borders = begin + np.rint(cumulative_fractions * (end - begin)).astype(np.int64)
    first_block = np.searchsorted(borders, windows.start, side="right")
    last_block = np.searchsorted(borders, stop - 1, side="right")
    return np.where(first_block == last_block, np.array(SPLITS)[first_block], "none")
