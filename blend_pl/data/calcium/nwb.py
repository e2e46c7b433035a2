"""Reader of NWB files: RoiResponseSeries, behavior, and a cell-type column of the plane segmentations."""

from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.calcium.invalid_frames import valid_frames
from blend_pl.data.calcium.recording import CalciumRecording, one_hot_states
from blend_pl.data.calcium.rois import read_rois
from blend_pl.data.calcium.spec import BEHAVIOR_STATES, CalciumNWBNames, CalciumSpec
from blend_pl.data.io.nwb import (
    TimeSeries,
    find_series,
    open_nwb,
    read_invalid_times,
    read_subject_id,
    read_time_series,
)
from blend_pl.data.limits import is_constant
from blend_pl.data.resample import hold_last_value, interpolate_to_frames
from blend_pl.errors import DataError

_TIME_TOLERANCE_S = 1e-6
"""A step that begins within this time after a frame holds in it, because times are rounded."""
MIN_REPORTED_COVERAGE = 0.99
"""Behavior that covers a smaller fraction of the frames is mentioned."""
MIN_COVERAGE = 0.05
"""Behavior that covers a smaller fraction of the frames is on another clock."""
MAX_PAUSE_S = 1.0
"""Longest distance of frames that are read as consecutive, if it is also `MAX_PAUSE_FRAMES` frames."""
MAX_PAUSE_FRAMES = 5


def read_calcium_nwb(
    path: Path, spec: CalciumSpec, names: CalciumNWBNames, session: str | None = None
) -> CalciumRecording:
    """Reads one file and interpolates behavior onto its frames; steps, as those of an IntervalSeries, are held.

    ROIs that `spec.rois` does not select, and those whose trace is constant or NaN throughout, are left out. Activity
    and behavior are NaN in frames that are in `intervals/invalid_times`.

    Args:
        path: the file.
        spec: specifies the behavior and the ROIs.
        names: names of series and columns in the file.
        session: name of the session; None for the stem of the file.

    Raises:
        DataError: the file is damaged, or lacks a series or a column; numbers of ROIs disagree; timestamps are out of
            order; planes have different frames; all frames are invalid; behavior is on another clock; states are
            unknown.
    """
    session = session or path.stem
    with open_nwb(path) as file:
        mouse = read_subject_id(file, session)
        groups = _find_activity(file, names.activity)
        planes = [read_time_series(file, group.name.removeprefix("/")) for group in groups]
        n_columns = [plane.data.shape[1] for plane in planes]
        rois = read_rois(groups, n_columns, names, spec.rois, mouse, session, spec.radius)
        times, plane_notes = _common_frames(planes, str(path))
        _require_no_pause(times, f"{planes[0].name} in {path}")
        is_valid, invalid_notes = valid_frames(times, read_invalid_times(file), path)
        activity = np.concatenate(
            [
                plane.data[: len(times), columns].astype(np.float32)
                for plane, columns in zip(planes, rois.columns, strict=True)
            ],
            axis=1,
        )
        channels = [_interpolate_nwb_series(file, name, times) for name in spec.behavior]
        behavior_notes = [
            note
            for name, channel in zip(spec.behavior, channels, strict=True)
            for note in _coverage_notes(channel[is_valid], name, path)
        ]
        if names.state is not None:
            states = _states_at_frames(read_time_series(file, names.state), times)
            channels.append(one_hot_states(states, f"{names.state} of {path}"))
        has_subject = bool(read_subject_id(file, ""))
    has_signal, activity_notes = _cells_with_signal(activity if is_valid.all() else activity[is_valid], path)
    behavior = np.concatenate(channels, axis=1) if channels else np.empty((len(times), 0), np.float32)
    activity[~is_valid], behavior[~is_valid] = np.nan, np.nan
    subject_notes = () if has_subject else (f"{path} has no subject_id; it counts as an animal of its own, {session}",)
    return CalciumRecording(
        name=session,
        mouse=mouse,
        times=times,
        activity=activity[:, has_signal],
        behavior=behavior,
        n_states=len(BEHAVIOR_STATES) if names.state is not None else 0,
        cell_id=rois.cell_id[has_signal],
        identified=rois.identified[has_signal],
        label=rois.label[has_signal],
        position=rois.position[has_signal],
        notes=(*subject_notes, *rois.notes, *plane_notes, *invalid_notes, *activity_notes, *behavior_notes),
    )


def _find_activity(file: h5py.File, names: str | list[str] | None) -> list[h5py.Group]:
    series_names = names if isinstance(names, list) and names else [names if isinstance(names, str) else None]
    return [
        find_series(file, "RoiResponseSeries", name, "data.names.activity (a list joins planes)")
        for name in series_names
    ]


def _common_frames(planes: list[TimeSeries], source: str) -> tuple[np.ndarray, list[str]]:
    """Returns the frame times of the first plane, and a note if some planes have more frames than others.

    Raises:
        DataError: the frames of another plane differ by a frame or more.
    """
    n_frames = [len(plane.timestamps) for plane in planes]
    times = planes[0].timestamps[: min(n_frames)]
    interval = float(np.median(np.diff(times)))
    for plane in planes[1:]:
        delay = np.abs(plane.timestamps[: len(times)] - times).max()
        if delay >= interval:
            raise DataError(
                f"frames of {plane.name} and {planes[0].name} in {source} differ by up to {delay:.3g} s, more than a "
                "frame; only planes of one clock can be joined: choose one with data.names.activity"
            )
    if max(n_frames) == min(n_frames):
        return times, []
    share = 100 * (max(n_frames) - min(n_frames)) / max(n_frames)
    return times, [f"{source}: the last {share:.2g} % of the frames are not in all planes and are left out"]


def _require_no_pause(times: np.ndarray, source: str) -> None:
    """Checks that frames follow one another, because windows of frames are cut without regard to their times.

    Raises:
        DataError: the microscope paused.
    """
    gaps = np.diff(times)
    longest = int(np.argmax(gaps))
    if gaps[longest] > max(MAX_PAUSE_S, MAX_PAUSE_FRAMES * float(np.median(gaps))):
        raise DataError(
            f"{source} has no frames from {times[longest]:g} to {times[longest + 1]:g} s; split the file "
            "at this pause, so that no window extends across it"
        )


def _cells_with_signal(activity: np.ndarray, path: Path) -> tuple[np.ndarray, list[str]]:
    """Returns the (N,) mask of cells with a trace that varies, and notes on the others and on missing values."""
    is_finite = np.isfinite(activity)
    highest = np.where(is_finite, activity, -np.inf).max(0)
    lowest = np.where(is_finite, activity, np.inf).min(0)
    has_signal = highest > lowest
    n_cells, n_dead = len(has_signal), int((~has_signal).sum())
    if n_dead == n_cells:
        raise DataError(f"{path} has no trace that varies: all {n_cells} are constant or NaN; choose another series")
    notes = []
    if n_dead:
        notes.append(
            f"{path}: {n_dead} of {n_cells} traces ({100 * n_dead / n_cells:.0f} %) are constant or NaN throughout "
            "and are left out"
        )
    missing_fraction = 1 - is_finite[:, has_signal].mean()
    if missing_fraction:
        notes.append(f"{path}: {100 * missing_fraction:.2g} % of the values of traces are NaN and are not scored")
    return has_signal, notes


def _coverage_notes(channel: np.ndarray, name: str, path: Path) -> list[str]:
    """Returns notes on behavior that is missing in some frames or constant in all.

    Raises:
        DataError: it is missing in nearly all frames.
    """
    coverage = np.isfinite(channel).all(axis=1).mean()
    if coverage < MIN_COVERAGE:
        share = f"a value in only {100 * coverage:.2g} % of" if coverage else "no value during"
        raise DataError(
            f"{name} of {path} has {share} the frames of the microscope; check that both are in seconds of one clock, "
            "or remove it from data.spec.behavior"
        )
    notes = []
    for column, values in enumerate(channel.T):
        if is_constant(values):
            value = values[np.isfinite(values)][0]
            of_column = f" of column {column}" if channel.shape[1] > 1 else ""
            notes.append(
                f"{path}: {name} has the value {value:g} in all frames{of_column}, which carries no information"
            )
    if coverage < MIN_REPORTED_COVERAGE:
        notes.append(f"{path}: {name} is missing in {100 * (1 - coverage):.0f} % of the frames")
    return notes


def _interpolate_nwb_series(file: h5py.File, name: str, frame_times: np.ndarray) -> np.ndarray:
    series = read_time_series(file, name)
    if series.data.shape[1] > len(series.data):
        raise DataError(
            f"{name} of {file.filename} has {len(series.data)} samples of {series.data.shape[1]} columns: it is "
            "transposed; write it as samples by columns"
        )
    if series.is_step:
        return _hold_at_frames(series, frame_times).astype(np.float32)
    return np.stack([interpolate_to_frames(series.timestamps, column, frame_times) for column in series.data.T], axis=1)


def _hold_at_frames(series: TimeSeries, frame_times: np.ndarray) -> np.ndarray:
    """Returns the (T, D) values of steps, e.g. states of an IntervalSeries, at the times of frames."""
    begins = series.timestamps - _TIME_TOLERANCE_S
    held = [hold_last_value(begins, column[:, None], frame_times) for column in series.data.T]
    values: np.ndarray = np.concatenate(held, axis=1)
    return values


def _states_at_frames(series: TimeSeries, frame_times: np.ndarray) -> np.ndarray:
    """Returns the (T,) states at the times of frames: those that hold, or those of the nearest samples."""
    if series.is_step:
        return _hold_at_frames(series, frame_times)[:, 0]
    nearest = np.searchsorted((series.timestamps[1:] + series.timestamps[:-1]) / 2, frame_times)
    states: np.ndarray = series.data[nearest, 0].astype(np.float64)
    return states
