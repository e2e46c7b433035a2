"""Reader of the NWB files of one session, which bins them into tensors."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from blend_pl.data.io.nwb import Columns
from blend_pl.data.io.remote import RemoteFile
from blend_pl.data.nlb.behavior import slice_behavior
from blend_pl.data.nlb.behavior_checks import check_training_behavior
from blend_pl.data.nlb.behavior_target import check_target
from blend_pl.data.nlb.binning import SpikeTrains
from blend_pl.data.nlb.held_out import check_held_out, format_ids, held_out_mask
from blend_pl.data.nlb.jitter import JITTER_GROUPS, apply_jitter
from blend_pl.data.nlb.left_out import describe_left_out, describe_no_training_trials
from blend_pl.data.nlb.recording import NLBRecording, read_nlb_recording
from blend_pl.data.nlb.scoring_window import scoring_bounds, scoring_mask_from_bounds
from blend_pl.data.nlb.session import SessionTensors, concatenate_trials, group_columns
from blend_pl.data.nlb.spec import ScoringWindow, SessionSpec
from blend_pl.data.nlb.splits import SPLITS, check_split
from blend_pl.data.nlb.targets import ScoringTargets
from blend_pl.data.nlb.trial_behavior import TrialBehavior
from blend_pl.data.nlb.trial_values import non_outliers
from blend_pl.data.nlb.trial_windows import labelled_windows, require_trials, test_file_windows
from blend_pl.data.nlb.windows import Windows, WindowShape
from blend_pl.errors import ConfigError, DataError

SettingT = TypeVar("SettingT", str | None, ScoringWindow | None)

_NO_UNITS = np.empty(0, dtype=np.int64)


def check_spec(spec: SessionSpec, bin_ms: int) -> WindowShape:
    """Checks that settings do not contradict one another, before any file is opened.

    Returns:
        The size of a window in bins.

    Raises:
        ConfigError: names the setting to change.
    """
    shape = WindowShape.from_window(spec.window, bin_ms)
    check_held_out(spec.held_out)
    check_split(spec)
    _check_trial_settings(spec)
    if spec.psth is not None and (not spec.psth.condition or spec.psth.smoothing_ms < 1):
        raise ConfigError("psth needs at least one column in psth.condition and psth.smoothing_ms of 1 or more")
    behavior = spec.behavior
    if behavior is not None and not (behavior.series_names or behavior.trial_columns or behavior.categories):
        raise ConfigError(
            "behavior names no source; set its series, trial_columns or categories, or set behavior: null"
        )
    if behavior is not None:
        check_target(behavior)
    return shape


def _check_trial_settings(spec: SessionSpec) -> None:
    """Checks that windows without trials are not combined with settings that need trials."""
    trial_settings = {
        "window.jitter": spec.window.jitter,
        "psth": spec.psth,
        "decode_by": spec.decode_by,
        "scoring_window": spec.scoring_window,
        "timing": spec.timing,
        "outlier_column": spec.outlier_column,
        "behavior.trial_columns": spec.behavior and spec.behavior.trial_columns,
        "behavior.categories": spec.behavior and spec.behavior.categories,
    }
    enabled = [name for name, value in trial_settings.items() if value]
    if spec.window.align is None and enabled:
        raise ConfigError(f"windows without window.align have no trials, which {enabled[0]} needs; set it to null")


def read_session(
    spec: SessionSpec,
    train_file: Path | RemoteFile,
    test_file: Path | RemoteFile | None,
    bin_ms: int,
    phase: Literal["val", "test"] = "val",
) -> dict[str, SessionTensors]:
    """Bins a session exactly as nlb_tools does (Pei et al., 2021).

    Held-in units come before held-out units, both ordered by id as in nlb_tools. Trials keep the order of the trials
    table; `trial_id` counts the rows of the train file, then those of the test file. PSTHs average training and
    validation trials together.

    Args:
        spec: describes the session.
        train_file: all units, behavior, training and validation trials, and test trials if there is no test file.
        test_file: held-in units of the test trials; None if there is no such file.
        bin_ms: bin width.
        phase: "test" if models are trained on training and validation trials together; the jitter depends on it.

    Returns:
        "train", "val" and "test", as far as they have trials. Trials of a test file have all N units, of which the
        held-out ones are unobserved, and NaN behavior if the file has none. Such files are stitched together from
        trials, so that forward bins are observed only up to the end of the interval in which the window starts.

    Raises:
        ConfigError: settings contradict one another or the files.
        DataError: a file is damaged or incomplete, or the files are of different sessions.
    """
    shape = check_spec(spec, bin_ms)
    train = read_nlb_recording(train_file, spec, bin_ms, behavior_required=True)
    is_held_out = held_out_mask(train.units, spec.held_out, str(train_file))
    unit_groups = [
        SpikeTrains.from_units(train.units, unit_mask, train.n_ms) if unit_mask.any() else SpikeTrains.empty(_NO_UNITS)
        for unit_mask in (~is_held_out, is_held_out)
    ]
    labelled = labelled_windows(spec, shape, train, unit_groups)
    windows, labels = labelled.windows, labelled.labels
    if "train" not in labels:
        raise DataError(f"{train_file} has no training trials: {describe_no_training_trials(spec, train, labelled)}")
    if spec.window.jitter is not None:
        table_label = f"the trials table of {train_file}"
        windows = apply_jitter(spec.window, windows, labels, require_trials(train), JITTER_GROUPS[phase], table_label)
    train_val_windows = windows.select(np.isin(labels, ("train", "val")))
    targets = ScoringTargets(spec, train, unit_groups, train_val_windows)
    trial_behavior = TrialBehavior(
        spec.behavior, train.trials or {}, train_val_windows.row, f"the trials table of {train_file}"
    )
    n_series = 0 if train.behavior is None else train.behavior.shape[1]
    all_tensors = _build_tensors(spec, train, unit_groups, windows, targets, trial_behavior, n_series)
    all_tensors = replace(all_tensors, left_out=describe_left_out(spec, train, labelled, all_tensors))
    sessions = {split: all_tensors.select(torch.from_numpy(labels == split)) for split in SPLITS if split in labels}
    check_training_behavior(sessions["train"], str(train_file), "data.spec.behavior")

    if test_file is not None:
        test = read_nlb_recording(test_file, spec, bin_ms, behavior_required=False)
        heldin_trains = _all_units(test)
        if not np.array_equal(heldin_trains.unit_id, unit_groups[0].unit_id):
            raise DataError(
                f"{test_file} has {_describe_units(heldin_trains, 'units')}, but {train_file} has "
                f"{_describe_units(unit_groups[0], 'held-in units')}; a test file must have exactly these: choose "
                "files of one session"
            )
        unit_groups = [heldin_trains, SpikeTrains.empty(unit_groups[1].unit_id)]
        test_windows = test_file_windows(spec, shape, test, unit_groups)
        test_tensors = _build_tensors(
            spec, test, unit_groups, test_windows, targets, trial_behavior, n_series, stitched=True
        )
        test_tensors = replace(test_tensors, trial_id=test_tensors.trial_id + windows.n_rows)
        sessions["test"] = concatenate_trials(sessions["test"], test_tensors) if "test" in sessions else test_tensors
    return sessions


def read_test_file(spec: SessionSpec, test_file: Path | RemoteFile, bin_ms: int) -> SessionTensors:
    """Bins a test file without its train file: all its units are held-in.

    Args:
        spec: describes the session.
        test_file: held-in units of the test trials.
        bin_ms: bin width.

    Returns:
        The test trials, T + F bins, without PSTHs; D = 0 if the file has no time series.

    Raises:
        ConfigError: settings contradict one another.
        DataError: the file is damaged or incomplete, or has no test trials.
    """
    shape = check_spec(spec, bin_ms)
    test = read_nlb_recording(test_file, spec, bin_ms, behavior_required=False)
    unit_groups = [_all_units(test), SpikeTrains.empty(_NO_UNITS)]
    windows = test_file_windows(spec, shape, test, unit_groups)
    targets = ScoringTargets(replace(spec, psth=None, decode_by=None, timing=None), test, unit_groups, windows)
    trial_behavior = TrialBehavior(None, {}, windows.row, "")
    n_series = 0 if test.behavior is None else test.behavior.shape[1]
    return _build_tensors(spec, test, unit_groups, windows, targets, trial_behavior, n_series, stitched=True)


def _describe_units(spike_trains: SpikeTrains, kind: str) -> str:
    return f"{spike_trains.n_units} {kind} ({format_ids(spike_trains.unit_id)})"


def _all_units(recording: NLBRecording) -> SpikeTrains:
    if not len(recording.units):
        raise DataError(f"{recording.path} has no units; choose a file with sorted units")
    return SpikeTrains.from_units(recording.units, np.ones(len(recording.units), dtype=bool), recording.n_ms)


def _build_tensors(
    spec: SessionSpec,
    recording: NLBRecording,
    unit_groups: list[SpikeTrains],
    windows: Windows,
    targets: ScoringTargets,
    trial_behavior: TrialBehavior,
    n_series: int,
    stitched: bool = False,
) -> SessionTensors:
    """Returns the tensors of windows of one file; all `n_series` channels are NaN if the file has no time series."""
    shape = windows.shape
    window_args = (windows.start, shape.n_bins, shape.bin_ms)
    coverages = [group.coverage(*window_args) for group in unit_groups]
    counts = [group.counts(*window_args) for group in unit_groups]
    if stitched:
        for spike_trains, coverage, unit_counts in zip(unit_groups, coverages, counts, strict=True):
            for index, intervals in enumerate(spike_trains.obs_intervals):
                forward_after_end = intervals.after_interval_end(*window_args)[:, shape.n_observed :]
                coverage[:, shape.n_observed :, index][forward_after_end] = False
            unit_counts *= coverage[..., spike_trains.coverage_index]
    spikes = np.concatenate(counts, axis=2)
    observed, observed_column = _group_columns(unit_groups, coverages)
    has_heldin = coverages[0][:, : shape.n_observed].any(axis=2)
    series = np.full((len(windows), shape.n_bins, n_series), np.nan, dtype=np.float32)
    if recording.behavior is not None:
        series = slice_behavior(recording.behavior, windows)
    trials, table_label = recording.trials or {}, f"the trials table of {recording.path}"
    channels = (
        trial_behavior.encode(trials, windows.row, table_label).astype(np.float32)[:, None].repeat(shape.n_bins, axis=1)
    )
    behavior = np.concatenate([series, channels], axis=2)
    behavior[
        ~non_outliers(trials, _setting_if_present(spec.outlier_column, trials, stitched), windows.row, table_label)
    ] = np.nan
    bounds = scoring_bounds(_setting_if_present(spec.scoring_window, trials, stitched), windows, trials, table_label)
    group, produced_interval = targets.timing(recording.trials, windows)
    return SessionTensors(
        spikes=torch.from_numpy(spikes),
        observed=torch.from_numpy(observed),
        scoring_mask=torch.from_numpy(scoring_mask_from_bounds(bounds, windows) & has_heldin),
        behavior=torch.from_numpy(behavior),
        trial_id=torch.from_numpy(windows.row.astype(np.int64)),
        start_bin=torch.from_numpy(windows.start.astype(np.int64)),
        jitter=torch.from_numpy(windows.jitter),
        condition=torch.from_numpy(targets.condition(recording.trials, windows)),
        decode_mask=torch.from_numpy(targets.decode_mask(recording.trials, windows)),
        timing_condition=torch.from_numpy(group),
        produced_interval=torch.from_numpy(produced_interval),
        psth=torch.from_numpy(targets.psth),
        unit_id=torch.from_numpy(np.concatenate([group.unit_id for group in unit_groups])),
        observed_column=observed_column,
        n_heldin=unit_groups[0].n_units,
        n_forward=shape.n_forward,
        n_series=n_series,
        bin_ms=shape.bin_ms,
        series_target=spec.behavior.target or spec.behavior.quantity if spec.behavior else "velocity",
    )


def _group_columns(unit_groups: list[SpikeTrains], coverages: list[np.ndarray]) -> tuple[np.ndarray, Tensor]:
    """Returns `SessionTensors.observed` and `observed_column` from the (n, T + F, G) coverage of groups of units."""
    columns = [coverage.all(axis=2) for coverage in coverages]
    observed_column = group_columns(unit_groups[0].n_units, sum(group.n_units for group in unit_groups))
    n_before = 0
    for group, coverage in zip(unit_groups, coverages, strict=True):
        if len(group.obs_intervals) > 1:
            index = torch.from_numpy(group.coverage_index)
            observed_column[n_before : n_before + group.n_units] = len(columns) + index
            columns.extend(coverage.transpose(2, 0, 1))
        n_before += group.n_units
    return np.stack(columns, axis=2), observed_column


def _setting_if_present(setting: SettingT, trials: Columns, stitched: bool) -> SettingT | None:
    """Returns the setting, or None for a test file without the columns that it names."""
    names = {setting} if isinstance(setting, str) else set(vars(setting).values()) if setting else set()
    return None if stitched and not names <= set(trials) else setting
