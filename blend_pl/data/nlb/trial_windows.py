"""The windows of one recording and the split that each belongs to."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require
from blend_pl.data.nlb.binning import Population
from blend_pl.data.nlb.recording import Recording
from blend_pl.data.nlb.spec import SessionSpec
from blend_pl.data.nlb.splits import column_split, drawn_split
from blend_pl.data.nlb.windows import Shape, Windows, continuous_windows, trial_windows
from blend_pl.errors import DataError


def labelled_windows(
    spec: SessionSpec, shape: Shape, recording: Recording, groups: list[Population]
) -> tuple[Windows, np.ndarray]:
    """The windows of a file that holds several splits.

    Args:
        spec: says where windows lie and how they are divided.
        shape: size of a window in bins.
        recording: the file.
        groups: its held-in and its held-out units.

    Returns:
        The n windows that belong to a split, and (n,) str train, val or test. With drawn splits, windows that lie
        beyond the recording are left out before the draw.

    Raises:
        DataError: a column is missing, or a trial has a split but no event or no recorded bin.
    """
    windows = _windows(spec, shape, recording, groups)
    recorded = _recorded(windows, groups[0])
    if spec.split.column is None:
        windows = windows.select(recorded)
        labels = drawn_split(spec.split, windows)
    else:
        labels = _column_labels(spec, recording)[windows.row]
        _require_recorded(recording, windows.row[(labels != "none") & ~recorded])
    kept = np.flatnonzero(labels != "none")
    return windows.select(kept), labels[kept]


def windows_of_test_file(spec: SessionSpec, shape: Shape, recording: Recording, groups: list[Population]) -> Windows:
    """The windows of a test file: those that the split column calls test, or, without such a column, all.

    Args and errors are those of `labelled_windows`; a file without test trials is an error too.
    """
    windows = _windows(spec, shape, recording, groups)
    if spec.split.column is not None:
        windows = windows.select(_column_labels(spec, recording)[windows.row] == "test")
    if not len(windows):
        raise DataError(f"{recording.path} has no test trials; choose the test file of session {spec.name}")
    recorded = _recorded(windows, groups[0])
    _require_recorded(recording, windows.row[~recorded])
    return windows


def trials_of(recording: Recording) -> Columns:
    """The trials table.

    Raises:
        DataError: there is none.
    """
    if recording.trials is None:
        raise DataError(
            f"{recording.path} has no trials table; set window.align: null with window.stride_ms, split.column: null "
            "and split.by: block"
        )
    return recording.trials


def _windows(spec: SessionSpec, shape: Shape, recording: Recording, groups: list[Population]) -> Windows:
    lag_ms = spec.behavior.lag_ms if spec.behavior else 0
    if spec.window.align is None:
        recorded = [group.recorded for group in groups if len(group.recorded.starts)]
        return continuous_windows(spec.window, shape, recorded, recording.n_ms, lag_ms)
    return trial_windows(spec.window, shape, _seconds(spec, recording), lag_ms)


def _seconds(spec: SessionSpec, recording: Recording) -> np.ndarray:
    assert spec.window.align is not None
    return require(trials_of(recording), spec.window.align, "window.align", f"the trials table of {recording.path}")


def _column_labels(spec: SessionSpec, recording: Recording) -> np.ndarray:
    where = f"the trials table of {recording.path}"
    return column_split(spec.split, trials_of(recording), spec.window.align or "", _seconds(spec, recording), where)


def _recorded(windows: Windows, heldin: Population) -> np.ndarray:
    observed = heldin.observed(windows.start, windows.shape.n_observed, windows.shape.bin_ms)
    return np.asarray(observed.any(axis=1))


def _require_recorded(recording: Recording, lost: np.ndarray) -> None:
    if len(lost):
        raise DataError(
            f"{recording.path} has {len(lost)} trials whose window lies beyond what was recorded (first: row {lost[0]})"
            "; mark their split none, or correct window"
        )
