"""Time series of NWB files as numpy arrays."""

from dataclasses import dataclass

import h5py
import numpy as np

from blend_pl.data.io.clock import COARSEST_RESOLUTION_S, coarse_resolution
from blend_pl.data.io.nwb_links import describe_broken_links, distinct_groups, paths_ending_with
from blend_pl.data.io.series_values import continuity, interval_states, read_values, series_type, series_unit
from blend_pl.errors import DataError

_MAX_RESOLUTION_FRACTION = 0.25
"""Coarsest resolution of timestamps as a fraction of the distance of samples."""


@dataclass(frozen=True)
class TimeSeries:
    """A time series.

    Attributes:
        name: name in the file.
        timestamps: (samples,) float64 s, strictly increasing; the first one is -inf for states that hold from the
            start of the recording.
        data: (samples, D) floating point, in the file's unit.
        columns: names of the D columns, empty if not in the file.
        unit: unit of the data, empty if not in the file.
        is_step: whether a value holds until the next sample, as the states of an IntervalSeries do.
    """

    name: str
    timestamps: np.ndarray
    data: np.ndarray
    columns: list[str]
    unit: str = ""
    is_step: bool = False


def time_series_paths(file: h5py.File) -> list[str]:
    """Returns the path of each time series of a file."""
    return [paths[0] for _, paths in _all_time_series(file)]


def has_time_series(file: h5py.File, name: str) -> bool:
    """Whether the file has a time series of this name."""
    return bool(paths_ending_with(name, _all_time_series(file)))


def read_time_series(file: h5py.File, name: str, stored: bool = False) -> TimeSeries:
    """Reads a time series anywhere in the file; an IntervalSeries becomes states, 1 inside of intervals and else 0.

    Args:
        file: the open file.
        name: its name, or the last parts of its path that identify it, e.g. "Position/hand".
        stored: whether to return stored values, without the conversion and offset of the file.

    Raises:
        DataError: no such series or several; data that are not a signal, see `read_values`; fewer than two samples;
            timestamps that are missing, not finite, out of order, repeated, or rounded to a type that cannot resolve
            the distance of samples.
    """
    all_series = _all_time_series(file)
    matches = paths_ending_with(name, all_series)
    if not matches:
        available = ", ".join(paths[0] for _, paths in all_series) or "none"
        raise DataError(
            f"{file.filename} has no time series {name!r}; set behavior.series to one it has: {available}"
            f"{describe_broken_links(file)}"
        )
    if len(matches) > 1:
        raise DataError(
            f"{file.filename} has several time series {name!r}; set behavior.series to "
            f"{' or '.join(path for _, path in matches)}"
        )
    group = matches[0][0]
    label = f"{name} in {file.filename}"
    data = read_values(group, label, stored)
    timestamps = _read_timestamps(group, len(data), label)
    if len(timestamps) != len(data) or len(data) < 2:
        raise DataError(
            f"{name} in {file.filename} has {len(data)} samples and {len(timestamps)} timestamps; repair the file"
        )
    if series_type(group) == "IntervalSeries":
        bounds, states, kinds = interval_states(timestamps, data, label)
        return TimeSeries(name, bounds, states, kinds, is_step=True)
    not_finite = np.flatnonzero(~np.isfinite(timestamps))
    if len(not_finite):
        raise DataError(
            f"{label} has {len(not_finite)} of {len(timestamps)} timestamps that are not finite (first: sample "
            f"{not_finite[0]}); leave out these samples, or write their times"
        )
    steps = np.diff(timestamps)
    increasing = steps > 0
    if not increasing.all():
        sample = int(np.argmin(increasing))
        raise DataError(
            f"{name} in {file.filename} has timestamps out of order or repeated (sample {sample + 1} at "
            f"{timestamps[sample + 1]} s follows {timestamps[sample]} s){_describe_resolution(group, timestamps)}; "
            "sort and deduplicate them"
        )
    _check_resolution(group, timestamps, float(np.median(steps)), label)
    is_step = continuity(group) == "step"
    return TimeSeries(name, timestamps, data, _column_names(group), series_unit(group), is_step)


def find_series(file: h5py.File, neurodata_type: str, name: str | None, setting: str) -> h5py.Group:
    """Returns the only series of a neurodata type.

    Args:
        file: the open file.
        neurodata_type: e.g. "ElectricalSeries".
        name: name of the series, or enough of the end of its path to make it unique; None if there is only one.
        setting: the setting of the name, for errors.

    Raises:
        DataError: there is no such series, or there are several.
    """
    candidates = distinct_groups(file, lambda group: group.attrs.get("neurodata_type") == neurodata_type)
    matches = [group for group, _ in (candidates if name is None else paths_ending_with(name, candidates))]
    if len(matches) != 1:
        available = ", ".join(paths[0] for _, paths in candidates) or "none"
        raise DataError(
            f"{file.filename} must have one {neurodata_type}{f' {name}' if name else ''}, it has: {available}; set "
            f"{setting}"
        )
    return matches[0]


def _all_time_series(file: h5py.File) -> list[tuple[h5py.Group, list[str]]]:
    return distinct_groups(file, lambda group: "data" in group and ("timestamps" in group or "starting_time" in group))


def _read_timestamps(group: h5py.Group, n_samples: int, label: str) -> np.ndarray:
    times = group["timestamps" if "timestamps" in group else "starting_time"]
    n_dims = 1 if "timestamps" in group else 0
    if not isinstance(times, h5py.Dataset) or times.dtype.kind not in "iuf" or times.ndim != n_dims:
        kind = f"{times.dtype} of shape {times.shape}" if isinstance(times, h5py.Dataset) else "a group"
        raise DataError(f"{label} has times that are {kind}; numbers are needed: repair the file")
    if "timestamps" in group:
        timestamps: np.ndarray = times[()]
        return timestamps.astype(np.float64)
    rate = np.asarray(times.attrs.get("rate", np.nan))
    if rate.dtype.kind not in "iuf" or rate.size != 1 or not np.isfinite(rate).all() or rate.item() <= 0:
        raise DataError(f"{label} has a starting_time without a rate (Hz); add the rate or timestamps to the file")
    return np.arange(n_samples) / float(rate.item()) + float(times[()])


def _check_resolution(group: h5py.Group, timestamps: np.ndarray, interval_s: float, label: str) -> None:
    resolution = _coarse_resolution(group, timestamps)
    if resolution is None:
        return
    dtype, spacing_s = resolution
    if spacing_s > max(COARSEST_RESOLUTION_S, _MAX_RESOLUTION_FRACTION * interval_s):
        raise DataError(
            f"the timestamps of {label} are {dtype}, which resolves {1000 * spacing_s:.2g} ms at "
            f"{np.abs(timestamps).max():g} s, too coarse for samples every {1000 * interval_s:.3g} ms; write them as "
            "float64"
        )


def _describe_resolution(group: h5py.Group, timestamps: np.ndarray) -> str:
    """Returns a description of the type of timestamps if its resolution makes neighboring timestamps equal."""
    resolution = _coarse_resolution(group, timestamps)
    if resolution is None:
        return ""
    dtype, spacing_s = resolution
    return f", because {dtype} resolves {1000 * spacing_s:.2g} ms there: write timestamps as float64"


def _coarse_resolution(group: h5py.Group, timestamps: np.ndarray) -> tuple[np.dtype, float] | None:
    """Returns `coarse_resolution` of finite timestamps; None for a series with a rate."""
    return coarse_resolution(timestamps, group["timestamps"].dtype) if "timestamps" in group else None


def _column_names(group: h5py.Group) -> list[str]:
    comments = group.attrs.get("comments", "")
    text = comments.decode() if isinstance(comments, bytes) else str(comments)
    if "columns=[" not in text:
        return []
    return [name.strip() for name in text.split("columns=[")[1].split("]")[0].split(",")]
