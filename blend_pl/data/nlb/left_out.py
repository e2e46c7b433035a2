"""Description of what is left out of a recording, with its share."""

import numpy as np
import torch

from blend_pl.data.nlb.recording import NLBRecording
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.nlb.spec import SessionSpec
from blend_pl.data.nlb.splits import SPLITS, count_shared_windows
from blend_pl.data.nlb.trial_windows import LabelledWindows

_MIN_FRACTION = 0.001
"""Smaller fractions are not described."""


def describe_left_out(
    spec: SessionSpec, recording: NLBRecording, labelled: LabelledWindows, tensors: SessionTensors
) -> str:
    """Returns one line on what was not observed or not used; empty if that is nothing.

    Args:
        spec: describes the session.
        recording: content of the file.
        labelled: its windows.
        tensors: tensors of these windows.
    """
    remarks = []
    kind = "windows" if spec.window.align is None else "trials"
    windows, unobserved = labelled.windows, _unobserved_fractions(tensors)
    n_total = len(windows) + labelled.n_outside + labelled.n_across_borders
    affected = unobserved >= _MIN_FRACTION
    if affected.any():
        remarks.append(
            f"{int(affected.sum())} of {tensors.n_units} units are not observed in "
            f"{_percent(float(unobserved[affected].mean()))} of the bins"
        )
    if recording.invalid_fraction >= _MIN_FRACTION:
        remarks.append(f"invalid_times cover {_percent(recording.invalid_fraction)} of the recording")
    for count, reason in (
        (labelled.n_outside, "are outside the recording"),
        (labelled.n_across_borders, "extend across borders of blocks"),
    ):
        if count:
            remarks.append(f"{count} of {n_total} {kind} ({_percent(count / n_total)}) {reason}")
    # Forward bins of benchmark sets may belong to another split, see `labelled_windows`.
    n_bins, bin_kind = (
        (windows.shape.n_bins, "forward") if spec.archive is None else (windows.shape.n_observed, "observed")
    )
    n_shared = count_shared_windows(labelled.labels, windows.start, windows.start + n_bins)
    if n_shared:
        remarks.append(
            f"{n_shared} of {n_total} {kind} ({_percent(n_shared / n_total)}) share {bin_kind} bins with another split"
        )
    if recording.unaccompanied_fraction >= 0.01 and spec.behavior is not None:
        series = " and ".join(spec.behavior.series_names)
        remarks.append(f"{_percent(recording.unaccompanied_fraction)} of {series} is outside the time with spikes")
    if recording.partial_fraction > 0:
        remarks.append(describe_partial_bins(recording.partial_fraction))
    if recording.clock_remark:
        remarks.append(recording.clock_remark)
    if recording.silence is not None:
        start, stop = recording.silence
        remarks.append(
            f"no unit has a spike from {start:.6g} to {stop:.6g} s, which counts as silence; add invalid_times to the "
            "file if nothing was recorded"
        )
    return f"{recording.path}: {'; '.join(remarks)}" if remarks else ""


def describe_no_training_trials(spec: SessionSpec, recording: NLBRecording, labelled: LabelledWindows) -> str:
    """Returns the reason why no window is a training trial, and the setting to change.

    Args:
        spec: describes the session.
        recording: content of the file.
        labelled: its windows.
    """
    n_total = len(labelled.windows) + labelled.n_outside + labelled.n_across_borders
    kind = "windows" if spec.window.align is None else "trials"
    if not n_total and spec.window.align is not None:
        n_rows = labelled.windows.n_rows
        if n_rows and spec.split.column is None:
            return f"none of {n_rows} trials has a time {spec.window.align}; set window.align to another column"
        if not n_rows:
            return "the trials table has no rows; choose another table with trials, or set window.align: null"
    if labelled.n_outside == n_total and n_total:
        invalid = (
            f" (invalid_times cover {_percent(recording.invalid_fraction)} of it)" if recording.invalid_fraction else ""
        )
        return f"all {n_total} {kind} are outside the recording{invalid}; correct window, or the intervals of the file"
    if labelled.n_across_borders:
        return f"{labelled.n_across_borders} of {n_total} {kind} extend across borders of blocks; shorten window"
    counts = ", ".join(f"{np.sum(labelled.labels == split)} {split}" for split in SPLITS)
    return f"the split of session {spec.name} gives {counts}; correct split"


def describe_partial_bins(fraction: float) -> str:
    """Returns a remark on bins in which a part of the behavior is missing; empty for the fraction 0."""
    return f"{_percent(fraction)} of the bins with behavior lack some of its columns and are left out" * (fraction > 0)


def _unobserved_fractions(tensors: SessionTensors) -> torch.Tensor:
    """Returns the (N,) fraction of the bins of all windows in which each unit was not observed."""
    by_column = 1.0 - tensors.observed.float().mean((0, 1))
    return by_column[tensors.observed_column]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"
