"""Proposal of the windows of a recording and of their division, from its trials."""

from dataclasses import replace

import numpy as np

from blend_pl.data.io.behavior_candidates import name_rank
from blend_pl.data.io.clock import ClockSpec
from blend_pl.data.io.contents import FileContents
from blend_pl.data.io.nwb import Columns
from blend_pl.data.nlb.spec import SplitSpec, WindowSpec
from blend_pl.data.nlb.splits import SPLITS, count_shared_windows, overlap_groups

BIN_WIDTHS_MS = (5, 10, 20, 50)
MIN_TRIALS = 20
LEAD_MS, LENGTH_MS, FORWARD_MS = 200, 600, 200
MIN_LENGTH_MS = 200
MAX_CHAIN_SHARE = 0.1
"""Largest share of windows in one chain of overlapping windows that can be divided at random."""
EVENT_NAMES = ("move", "onset", "go_cue", "go", "cue", "stim", "target")


def choose_window(contents: FileContents) -> tuple[WindowSpec, ClockSpec, str]:
    """Returns windows around an event of trials or over the whole recording, the clock of the event, and the reason."""
    trials, clock = contents.trials or {}, contents.unit_settings.clock
    continuous = WindowSpec(0, LENGTH_MS, None, FORWARD_MS, LENGTH_MS + FORWARD_MS)
    whole = "windows over the whole recording that do not overlap"
    if not _has_bounds(trials):
        return continuous, clock, f"no trials table: {whole}"
    start, stop = trials["start_time"].astype(np.float64), trials["stop_time"].astype(np.float64)
    if len(start) < MIN_TRIALS:
        return continuous, clock, f"{len(start)} trials are too few: {whole}"
    events = {name: trials[name].astype(np.float64) for name in _event_columns(trials)}
    relative = {} if events else {name: start + trials[name] for name in _relative_event_columns(trials)}
    for name, event in (events | relative | {"start_time": start}).items():
        valid = np.isfinite(event) & np.isfinite(start) & np.isfinite(stop)
        if valid.sum() < MIN_TRIALS:
            continue
        before_ms = _floor_ms(np.quantile(event[valid] - start[valid], 0.1))
        after_ms = _floor_ms(np.quantile(stop[valid] - event[valid], 0.1))
        start_ms = -min(LEAD_MS, before_ms)
        forward_ms = FORWARD_MS if after_ms - FORWARD_MS - start_ms >= MIN_LENGTH_MS + FORWARD_MS else 0
        stop_ms = min(start_ms + LENGTH_MS, after_ms - forward_ms)
        if stop_ms - start_ms >= MIN_LENGTH_MS:
            window = WindowSpec(start_ms, stop_ms, name, forward_ms)
            clock = replace(clock, events="trial") if name in relative else clock
            reason = f"{int(valid.sum())} trials, aligned to {name}; the window is inside 90 % of the trials"
            return window, clock, reason
    return continuous, clock, f"trials are too short: {whole}"


def _has_bounds(trials: Columns) -> bool:
    """Whether each trial has one start and one stop."""
    bounds = [trials.get(name) for name in ("start_time", "stop_time")]
    return all(bound is not None and bound.ndim == 1 and bound.dtype.kind in "iuf" for bound in bounds)


def _floor_ms(seconds: float) -> int:
    """Returns whole milliseconds, a multiple of all bin widths."""
    step = BIN_WIDTHS_MS[-1] * 2
    return int(seconds * 1000 + 1e-6) // step * step


def _event_columns(trials: Columns) -> list[str]:
    """Returns columns with times inside of trials, likely events of alignment first."""
    start, stop = trials["start_time"], trials["stop_time"]
    names = []
    for name, column in trials.items():
        if column.ndim > 1 or column.dtype.kind != "f" or name in ("start_time", "stop_time"):
            continue
        finite = np.isfinite(column)
        inside = (column[finite] >= start[finite] - 1e-6) & (column[finite] <= stop[finite] + 1e-6)
        if finite.mean() >= 0.5 and inside.mean() >= 0.95 and np.ptp(column[finite]) > np.ptp(start) / 2:
            names.append(name)
    return sorted(names, key=lambda name: (name_rank(name, EVENT_NAMES), name))


def _relative_event_columns(trials: Columns) -> list[str]:
    """Returns columns of events with times from the start of each trial, likely events of alignment first."""
    start, stop = trials["start_time"].astype(np.float64), trials["stop_time"].astype(np.float64)
    names = []
    for name, column in trials.items():
        is_event = any(part in name.lower() for part in EVENT_NAMES) and not _is_duration(name)
        if column.ndim > 1 or column.dtype.kind != "f" or not is_event:
            continue
        finite = np.isfinite(column)
        inside = (column >= 0) & (column <= stop - start) & (np.abs(start) > stop - start)
        if finite.sum() >= MIN_TRIALS and inside.sum() > 0.9 * finite.sum():
            names.append(name)
    return sorted(names, key=lambda name: (name_rank(name, EVENT_NAMES), name))


def _is_duration(name: str) -> bool:
    return any(part in name.lower() for part in ("duration", "reaction", "latency", "interval", "delay"))


def choose_split(contents: FileContents, window: WindowSpec, clock: ClockSpec) -> tuple[SplitSpec, str]:
    """Returns a division of windows without shared spikes, and the reason."""
    if window.align is None:
        return SplitSpec(None, "block"), "contiguous blocks, so that windows of different splits are not adjacent"
    assert contents.trials is not None
    trials, blocks = contents.trials, SplitSpec(None, "block")
    event = trials[window.align].astype(np.float64)
    if clock.events == "trial":
        event = trials["start_time"] + event
    event_ms = np.rint(np.where(np.isfinite(event), event, 0.0) * 1000).astype(np.int64)
    start_ms, stop_ms = event_ms + window.start_ms, event_ms + window.stop_ms
    labels = trials.get("split")
    reason = ""
    if labels is not None and labels.dtype.kind == "U" and {"train", "val"} <= set(labels.tolist()):
        valid = np.isfinite(event) & (labels != "none")
        n_shared = count_shared_windows(labels[valid], start_ms[valid], stop_ms[valid])
        if not n_shared and set(labels.tolist()) <= {*SPLITS, "none"}:
            return SplitSpec("split"), "the file has a split"
        reason = f"not the split of the file, in which {n_shared} windows overlap others or which has other values; "
    valid = np.isfinite(event)
    groups = overlap_groups(start_ms[valid], stop_ms[valid] + window.forward_ms)
    n_in_chain = int(np.bincount(groups).max(initial=0))
    if n_in_chain > MAX_CHAIN_SHARE * valid.sum():
        reason += f"contiguous blocks, because {n_in_chain} of {valid.sum()} windows overlap in one chain"
        return blocks, reason
    return SplitSpec(None, "trial"), f"{reason}trials drawn at random; the remaining 15 % are the test set"
