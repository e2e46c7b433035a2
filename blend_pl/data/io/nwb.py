"""Units, trials and time series of NWB files as numpy arrays, read with h5py alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from blend_pl.errors import DataError

Columns = dict[str, np.ndarray]
"""One-dimensional columns of a table by name, strings decoded."""


@dataclass(frozen=True)
class Units:
    """The units table of one file, in the file's order.

    Attributes:
        id: (N,) int64.
        columns: one-dimensional columns such as "heldout".
        times: (spikes,) float64 s, the concatenated spike times of all units.
        time_stops: (N,) end of each unit's spikes in `times`.
        intervals: (rows, 2) float64 s, the concatenated observation intervals of all units; None if the file has none.
        interval_stops: (N,) end of each unit's rows in `intervals`.
    """

    id: np.ndarray
    columns: Columns
    times: np.ndarray
    time_stops: np.ndarray
    intervals: np.ndarray | None
    interval_stops: np.ndarray | None

    def __len__(self) -> int:
        return len(self.id)

    def spike_times(self, unit: int) -> np.ndarray:
        """Returns the (spikes,) float64 s of the unit in this row."""
        return self.times[_ragged_slice(self.time_stops, unit)]

    def obs_intervals(self, unit: int) -> np.ndarray | None:
        """Returns the (intervals, 2) float64 s in which the unit in this row was recorded; None if not in the file."""
        if self.intervals is None or self.interval_stops is None:
            return None
        return self.intervals[_ragged_slice(self.interval_stops, unit)]


@dataclass(frozen=True)
class TimeSeries:
    """A time series.

    Attributes:
        name: name in the file.
        timestamps: (samples,) float64 s, strictly increasing.
        data: (samples, D) floating point, in the file's unit.
        columns: names of the D columns, empty if not in the file.
    """

    name: str
    timestamps: np.ndarray
    data: np.ndarray
    columns: list[str]


@contextmanager
def open_nwb(path: Path) -> Iterator[h5py.File]:
    """Opens an NWB file for reading.

    Raises:
        DataError: the file is missing, is not HDF5, or is truncated; also raised while reading in the block.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; check the data root and the file pattern") from error
    except OSError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot read {path} ({reason}); it is damaged or incomplete: fetch it again") from error


def read_units(file: h5py.File) -> Units:
    """Reads the units table.

    Raises:
        DataError: no units table, no spike times, or spike times that are not finite.
    """
    table = file.get("units")
    if not isinstance(table, h5py.Group) or "spike_times" not in table or "spike_times_index" not in table:
        raise DataError(f"{file.filename} has no units table with spike_times; choose a file with sorted units")
    times = table["spike_times"][()].astype(np.float64)
    if not np.isfinite(times).all():
        raise DataError(f"{file.filename} has spike times that are not finite; repair the units table")
    has_obs_intervals = "obs_intervals_index" in table and len(table["obs_intervals"])
    time_stops = table["spike_times_index"][()].astype(np.int64)
    return Units(
        id=table["id"][()].astype(np.int64) if "id" in table else np.arange(len(time_stops)),
        columns=_columns(table),
        times=times,
        time_stops=time_stops,
        intervals=table["obs_intervals"][()].astype(np.float64) if has_obs_intervals else None,
        interval_stops=table["obs_intervals_index"][()].astype(np.int64) if has_obs_intervals else None,
    )


def read_invalid_times(file: h5py.File) -> np.ndarray:
    """Returns the (rows, 2) starts and ends of `intervals/invalid_times` in s, no rows without the table.

    Raises:
        DataError: a row has no start and end, or ends before it starts.
    """
    table = file.get("intervals/invalid_times")
    columns = _columns(table) if isinstance(table, h5py.Group) else {}
    bounds = [columns.get(name, np.empty(0)) for name in ("start_time", "stop_time")]
    if not isinstance(table, h5py.Group) or ("id" in table and not len(table["id"])):
        return np.empty((0, 2))
    if len(bounds[0]) != len(bounds[1]) or any(column.dtype.kind not in "iuf" for column in bounds):
        raise DataError(f"{file.filename} has invalid_times without start_time and stop_time (s); repair the table")
    rows = np.stack(bounds, axis=1).astype(np.float64)
    invalid = np.flatnonzero(~(rows[:, 0] <= rows[:, 1]))
    if len(invalid):
        start, stop = rows[invalid[0]]
        raise DataError(
            f"{file.filename} has invalid_times from {start:g} to {stop:g} s (row {invalid[0]}); write a start and a "
            "later end, infinite if it is open"
        )
    return rows


def read_trials(file: h5py.File) -> Columns | None:
    """Reads the one-dimensional columns of the trials table; None without a table."""
    table = file.get("intervals/trials")
    return _columns(table) if isinstance(table, h5py.Group) else None


def has_time_series(file: h5py.File, name: str) -> bool:
    """Whether the file has a time series of this name."""
    return bool(_matching_paths(file, name))


def read_time_series(file: h5py.File, name: str) -> TimeSeries:
    """Reads a time series anywhere in the file.

    Args:
        file: the open file.
        name: its name, or the last parts of its path that identify it, e.g. "Position/hand".

    Raises:
        DataError: no such series or several; data that are not numbers in one or two dimensions; fewer than two
            samples; timestamps that are missing, not finite, out of order or repeated.
    """
    paths = _matching_paths(file, name)
    if not paths:
        available = ", ".join(_time_series_paths(file)) or "none"
        raise DataError(f"{file.filename} has no time series {name!r}; set behavior.series to one it has: {available}")
    if len(paths) > 1:
        raise DataError(
            f"{file.filename} has several time series {name!r}; set behavior.series to {' or '.join(paths)}"
        )
    group = file[paths[0]]
    data = group["data"][()]
    if data.dtype.kind not in "biuf" or data.ndim not in (1, 2):
        raise DataError(
            f"{name} in {file.filename} is {data.dtype} of shape {data.shape}; a series of numbers is needed"
        )
    if data.dtype not in (np.float32, np.float64):
        data = data.astype(np.float64)
    timestamps = _read_timestamps(group, len(data))
    if len(timestamps) != len(data) or len(data) < 2:
        raise DataError(
            f"{name} in {file.filename} has {len(data)} samples and {len(timestamps)} timestamps; repair the file"
        )
    increasing = np.diff(timestamps) > 0
    if not increasing.all() or not np.isfinite(timestamps[[0, -1]]).all():
        sample = int(np.argmin(increasing))
        raise DataError(
            f"{name} in {file.filename} has timestamps out of order or repeated (sample {sample + 1} at "
            f"{timestamps[sample + 1]} s follows {timestamps[sample]} s); sort and deduplicate them"
        )
    return TimeSeries(name, timestamps, data.reshape(len(data), -1), _column_names(group))


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
    candidates: list[h5py.Group] = []

    def visit(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group) and item.attrs.get("neurodata_type") == neurodata_type:
            candidates.append(item)

    file.visititems(visit)
    matches = [group for group in candidates if name is None or group.name.endswith(f"/{name}")]
    if len(matches) != 1:
        available = ", ".join(group.name.removeprefix("/") for group in candidates) or "none"
        raise DataError(
            f"{file.filename} must have one {neurodata_type}{f' {name}' if name else ''}, it has: {available}; set "
            f"{setting}"
        )
    return matches[0]


def read_subject_id(file: h5py.File, default: str) -> str:
    """Returns the subject id, or the default for a file without one."""
    subject = file.get("general/subject/subject_id")
    return str(subject.asstr()[()]) if isinstance(subject, h5py.Dataset) else default


def require_column(columns: Columns, name: str, setting: str, table_label: str) -> np.ndarray:
    """Returns a column that a setting names.

    Args:
        columns: the table.
        name: name of the column.
        setting: name of the setting, for the error message.
        table_label: table and file, for the error message.

    Raises:
        DataError: no such column; the message lists the existing ones.
    """
    if name not in columns:
        raise DataError(
            f"{table_label} has no column {name!r}; set {setting} to one it has: {', '.join(columns) or 'none'}"
        )
    return columns[name]


def _ragged_slice(stops: np.ndarray, row: int) -> slice:
    return slice(stops[row - 1] if row else 0, stops[row])


def _columns(table: h5py.Group) -> Columns:
    columns = {}
    for name, dataset in table.items():
        is_plain = isinstance(dataset, h5py.Dataset) and dataset.ndim == 1
        if not is_plain or name == "id" or name.endswith("_index") or f"{name}_index" in table:
            continue
        if h5py.check_string_dtype(dataset.dtype):
            columns[name] = dataset.asstr()[()].astype(str)
        elif dataset.dtype.kind in "biuf":
            columns[name] = dataset[()]
    return columns


def _time_series_paths(file: h5py.File) -> list[str]:
    paths: list[str] = []

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group) and "data" in item and ("timestamps" in item or "starting_time" in item):
            paths.append(path)

    file.visititems(visit)
    return paths


def _matching_paths(file: h5py.File, name: str) -> list[str]:
    return [path for path in _time_series_paths(file) if f"/{path}".endswith(f"/{name}")]


def _read_timestamps(group: h5py.Group, n_samples: int) -> np.ndarray:
    if "timestamps" in group:
        timestamps: np.ndarray = group["timestamps"][()]
        return timestamps.astype(np.float64)
    start = group["starting_time"]
    return np.arange(n_samples) / float(start.attrs["rate"]) + float(start[()])


def _column_names(group: h5py.Group) -> list[str]:
    comments = group.attrs.get("comments", "")
    text = comments.decode() if isinstance(comments, bytes) else str(comments)
    if "columns=[" not in text:
        return []
    return [name.strip() for name in text.split("columns=[")[1].split("]")[0].split(",")]
