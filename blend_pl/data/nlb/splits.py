"""Division of windows into train, val and test, which share no spike."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.data.nlb.spec import SessionSpec, SplitSpec
from blend_pl.data.nlb.windows import Windows
from blend_pl.errors import ConfigError, DataError

SPLITS = ("train", "val", "test")

_MAX_DEVIATION = 0.1
"""Largest difference between the fraction of a split and its fraction of windows that are drawn in groups."""


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


def overlap_groups(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Groups windows that share bins, directly or through other windows.

    Args:
        start: (n,) first bin of each window.
        stop: (n,) bin after its last one.

    Returns:
        (n,) int64 groups, numbered in order of time.

    Example:
        >>> overlap_groups(np.array([0, 30, 5]), np.array([10, 40, 12])).tolist()
        [0, 1, 0]
    """
    order = np.lexsort((stop, start))
    latest_stop = np.maximum.accumulate(stop[order])
    groups = np.empty(len(start), dtype=np.int64)
    is_new = start[order][1:] >= latest_stop[:-1]
    groups[order] = np.concatenate([np.zeros(min(len(start), 1), dtype=np.int64), np.cumsum(is_new)])
    return groups


def draw_grouped_split(split: SplitSpec, groups: np.ndarray) -> np.ndarray:
    """Divides trials at random, those of a group together; without groups of several trials as `draw_trial_split`.

    Args:
        split: fractions of train and val; the others are test.
        groups: (n,) group of each trial, 0 to the number of groups.

    Returns:
        (n,) str: train, val or test.

    Raises:
        ConfigError: the groups are too large for the fractions.
    """
    n_trials, sizes = len(groups), np.bincount(groups)
    if len(sizes) == n_trials:
        return draw_trial_split(split, n_trials)
    order = np.random.default_rng(split.seed).permutation(len(sizes))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    borders = np.rint(_cumulative_fractions(split) * n_trials).astype(np.int64)
    group_labels = np.empty(len(sizes), dtype=np.int64)
    group_labels[order] = np.searchsorted(borders, middle, side="right")
    labels = group_labels[groups]
    counts, expected = np.bincount(labels, minlength=3), np.diff(borders, prepend=0, append=n_trials)
    is_off = np.abs(counts - expected) > _MAX_DEVIATION * n_trials
    if is_off.any() or ((counts == 0) & (expected > 0)).any():
        raise ConfigError(
            f"{(sizes[groups] > 1).sum()} of {n_trials} windows overlap others, {sizes.max()} in one chain, so that a "
            "random split would share spikes; set split.by: block, or shorten window.stop_ms or window.forward_ms"
        )
    return np.asarray(np.array(SPLITS)[labels])


def count_shared_windows(labels: np.ndarray, start: np.ndarray, stop: np.ndarray) -> int:
    """Returns the number of windows that overlap an earlier window of another split; for arguments see below."""
    order = np.argsort(start, kind="stable")
    labels, start, stop = labels[order], start[order], stop[order]
    n_shared = 0
    for label in set(labels.tolist()) - {"none"}:
        is_other = (labels != label) & (labels != "none")
        earlier_stop = np.maximum.accumulate(np.where(is_other, stop, np.iinfo(np.int64).min))
        n_shared += int(((labels == label) & (start < earlier_stop)).sum())
    return n_shared


def require_disjoint_splits(labels: np.ndarray, start: np.ndarray, stop: np.ndarray, column: str) -> None:
    """Checks that observed bins of windows of one split are not those of another.

    Args:
        labels: (n,) str split of each window.
        start: (n,) first observed bin.
        stop: (n,) bin after the last observed one.
        column: name of the trials column of the splits.

    Raises:
        DataError: windows of different splits overlap.
    """
    n_shared = count_shared_windows(labels, start, stop)
    if n_shared:
        raise DataError(
            f"{n_shared} of {len(labels)} windows overlap windows of another split in column {column!r}, so that the "
            "splits share spikes; correct the column, set split.column: null and split.by: block, or shorten "
            "window.stop_ms"
        )


def _cumulative_fractions(split: SplitSpec) -> np.ndarray:
    return np.array([split.train, min(split.train + split.val, 1.0)])


def draw_split(split: SplitSpec, windows: Windows, max_shift: int = 0) -> np.ndarray:
    """Divides windows at random or into contiguous blocks of time, so that splits share no bin.

    A random draw keeps windows together that overlap.

    Args:
        split: fractions of train and val; the others are test.
        windows: all windows.
        max_shift: bins by which windows may be shifted later afterwards.

    Returns:
        (n,) str: train, val, test, or none for a window across the border of a block.

    Raises:
        ConfigError: too many windows overlap for a random draw.
    """
    stop = windows.start + windows.shape.n_bins + max_shift
    if split.by == "trial":
        return draw_grouped_split(split, overlap_groups(windows.start, stop))
    cumulative_fractions = _cumulative_fractions(split)
    if not len(windows):
        return np.empty(0, dtype=str)
    begin, end = windows.start.min(), stop.max()
    borders = begin + np.rint(cumulative_fractions * (end - begin)).astype(np.int64)
    first_block = np.searchsorted(borders, windows.start, side="right")
    last_block = np.searchsorted(borders, stop - 1, side="right")
    return np.where(first_block == last_block, np.array(SPLITS)[first_block], "none")
