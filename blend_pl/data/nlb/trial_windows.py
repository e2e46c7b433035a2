"""The windows of one recording and the split that each belongs to."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.data.nlb.binning import SpikeTrains
from blend_pl.data.nlb.recording import NLBRecording
from blend_pl.data.nlb.spec import SessionSpec
from blend_pl.data.nlb.splits import draw_split, read_split_column
from blend_pl.data.nlb.windows import Windows, WindowShape, continuous_windows, trial_windows
from blend_pl.errors import DataError


def labelled_windows(
    spec: SessionSpec, shape: WindowShape, recording: NLBRecording, unit_groups: list[SpikeTrains]
) -> tuple[Windows, np.ndarray]:
    """The windows of a file that holds several splits.

    Args:
        spec: says where windows lie and how they are divided.
        shape: size of a window in bins.
        recording: the file.
        unit_groups: its held-in and its held-out units.

    Returns:
        The n windows that belong to a split, and (n,) str train, val or test. With drawn splits, windows that lie
        beyond the recording are left out before the draw.

    Raises:
        DataError: a column is missing, or a trial has a split but no event or no recorded bin.
    """
    windows = _build_windows(spec, shape, recording, unit_groups)
    has_recorded_bins = _has_recorded_bins(windows, unit_groups[0])
    if spec.split.column is None:
        windows = windows.select(has_recorded_bins)
        labels = draw_split(spec.split, windows)
    else:
        labels = _column_labels(spec, recording)[windows.row]
        _require_recorded_bins(recording, windows.row[(labels != "none") & ~has_recorded_bins])
    in_split = np.flatnonzero(labels != "none")
    return windows.select(in_split), labels[in_split]


def test_file_windows(
    spec: SessionSpec, shape: WindowShape, recording: NLBRecording, unit_groups: list[SpikeTrains]
) -> Windows:
    """The windows of a test file: those that the split column calls test, or, without such a column, all.

    Args and errors are those of `labelled_windows`; a file without test trials is an error too.
    """
    windows = _build_windows(spec, shape, recording, unit_groups)
    if spec.split.column is not None:
        windows = windows.select(_column_labels(spec, recording)[windows.row] == "test")
    if not len(windows):
        raise DataError(f"{recording.path} has no test trials; choose the test file of session {spec.name}")
    has_recorded_bins = _has_recorded_bins(windows, unit_groups[0])
    _require_recorded_bins(recording, windows.row[~has_recorded_bins])
    return windows


def require_trials(recording: NLBRecording) -> Columns:
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


def _build_windows(
    spec: SessionSpec, shape: WindowShape, recording: NLBRecording, unit_groups: list[SpikeTrains]
) -> Windows:
    lag_ms = spec.behavior.lag_ms if spec.behavior else 0
    if spec.window.align is None:
        obs_intervals = [group.obs_intervals for group in unit_groups if len(group.obs_intervals.starts)]
        return continuous_windows(spec.window, shape, obs_intervals, recording.n_ms, lag_ms)
    return trial_windows(spec.window, shape, _event_times(spec, recording), lag_ms)


def _event_times(spec: SessionSpec, recording: NLBRecording) -> np.ndarray:
    assert spec.window.align is not None
    return require_column(
        require_trials(recording), spec.window.align, "window.align", f"the trials table of {recording.path}"
    )


def _column_labels(spec: SessionSpec, recording: NLBRecording) -> np.ndarray:
    table_label = f"the trials table of {recording.path}"
    return read_split_column(
        spec.split, require_trials(recording), spec.window.align or "", _event_times(spec, recording), table_label
    )


def _has_recorded_bins(windows: Windows, heldin: SpikeTrains) -> np.ndarray:
    observed = heldin.observed(windows.start, windows.shape.n_observed, windows.shape.bin_ms)
    return np.asarray(observed.any(axis=1))


def _require_recorded_bins(recording: NLBRecording, unrecorded_rows: np.ndarray) -> None:
    if len(unrecorded_rows):
        raise DataError(
            f"{recording.path} has {len(unrecorded_rows)} trials whose window lies beyond what was recorded (first: row {unrecorded_rows[0]})"
            "; mark their split none, or correct window"
        )
