"""Windows of one recording and their splits."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.data.nlb.binning import SpikeTrains
from blend_pl.data.nlb.recording import NLBRecording
from blend_pl.data.nlb.spec import SessionSpec
from blend_pl.data.nlb.splits import draw_split, read_split_column, require_disjoint_splits
from blend_pl.data.nlb.windows import Windows, WindowShape, continuous_windows, trial_windows
from blend_pl.errors import DataError


@dataclass(frozen=True)
class LabelledWindows:
    """Windows of a file and their splits.

    Attributes:
        windows: the n windows that belong to a split.
        labels: (n,) str train, val or test.
        n_outside: number of windows that are left out because no held-in unit was recorded in them.
        n_across_borders: number of windows that are left out because they extend across the border of a block.
    """

    windows: Windows
    labels: np.ndarray
    n_outside: int
    n_across_borders: int


def labelled_windows(
    spec: SessionSpec, shape: WindowShape, recording: NLBRecording, unit_groups: list[SpikeTrains]
) -> LabelledWindows:
    """Returns the windows of a file with several splits, which share no observed bin.

    In a benchmark set, forward bins of a window may be observed bins of the next window, which may belong to another
    split (MC_RTT: trials without gaps). That is the definition of the benchmark, which is kept for all splits that a
    column defines. Splits that are drawn share no forward bins either.

    Args:
        spec: describes windows and their division.
        shape: size of a window in bins.
        recording: content of the file.
        unit_groups: held-in and held-out units of the file.

    Returns:
        The windows that belong to a split. Windows outside the recording are removed before splits are drawn.

    Raises:
        ConfigError: too many windows overlap for a random draw.
        DataError: a column is missing, a trial with a split has no event or no recorded bin, or splits of a column
            overlap in a set that is not in an archive.
    """
    windows = _build_windows(spec, shape, recording, unit_groups)
    has_recorded_bins = _has_recorded_bins(windows, unit_groups[0])
    n_outside = n_across_borders = 0
    if spec.split.column is None:
        windows, n_outside = windows.select(has_recorded_bins), int((~has_recorded_bins).sum())
        max_shift = -(-spec.window.jitter.max_ms // shape.bin_ms) if spec.window.jitter is not None else 0
        labels = draw_split(spec.split, windows, max_shift)
        n_across_borders = int((labels == "none").sum())
    else:
        labels = _column_labels(spec, recording)[windows.row]
        _require_recorded_bins(recording, windows.row[(labels != "none") & ~has_recorded_bins])
        if spec.archive is None:
            require_disjoint_splits(labels, windows.start, windows.start + shape.n_observed, spec.split.column)
    in_split = np.flatnonzero(labels != "none")
    return LabelledWindows(windows.select(in_split), labels[in_split], n_outside, n_across_borders)


def test_file_windows(
    spec: SessionSpec, shape: WindowShape, recording: NLBRecording, unit_groups: list[SpikeTrains]
) -> Windows:
    """Returns the windows of a test file: those with the split test, or all without a split column.

    Args and errors are those of `labelled_windows`; a file without test trials is also an error.
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
    """Returns the trials table.

    Raises:
        DataError: the file has no trials table.
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
        return continuous_windows(spec.window, shape, list(unit_groups[0].obs_intervals), recording.n_ms, lag_ms)
    return trial_windows(spec.window, shape, _event_times(spec, recording), lag_ms, recording.start_s)


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
    observed = heldin.coverage(windows.start, windows.shape.n_observed, windows.shape.bin_ms)
    return np.asarray(observed.any(axis=(1, 2)))


def _require_recorded_bins(recording: NLBRecording, unrecorded_rows: np.ndarray) -> None:
    if len(unrecorded_rows):
        raise DataError(
            f"{recording.path} has {len(unrecorded_rows)} trials with windows outside the recording (first: row "
            f"{unrecorded_rows[0]}); set their split to none, or correct window"
        )
