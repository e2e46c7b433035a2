"""Units tables of NWB files."""

from dataclasses import dataclass, replace

import h5py
import numpy as np

from blend_pl.data.io.nwb_links import describe_broken_links, distinct_groups, paths_ending_with
from blend_pl.data.io.nwb_tables import Columns, read_columns, read_numbers, read_row_stops, table_label
from blend_pl.data.io.selection import read_selected_rows, read_selection_column, selection_columns
from blend_pl.data.io.spike_order import check_spike_times
from blend_pl.data.io.unit_selection import UnitSelection
from blend_pl.errors import DataError


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

    def select(self, unit_mask: np.ndarray) -> "Units":
        """Returns the units of a (N,) bool mask."""
        rows: list[int] = np.flatnonzero(unit_mask).tolist()
        times = [self.spike_times(row) for row in rows]
        intervals = [intervals for row in rows if (intervals := self.obs_intervals(row)) is not None]
        has_intervals = self.intervals is not None
        return Units(
            id=self.id[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
            times=np.concatenate([np.empty(0), *times]),
            time_stops=np.cumsum([len(unit_times) for unit_times in times], dtype=np.int64),
            intervals=np.concatenate([np.empty((0, 2)), *intervals]) if has_intervals else None,
            interval_stops=np.cumsum([len(rows) for rows in intervals], dtype=np.int64) if has_intervals else None,
        )


def read_units(
    file: h5py.File,
    selection: UnitSelection = UnitSelection(),  # noqa: B008
    ticks_per_second: float | None = None,
) -> Units:
    """Reads the selected units of the units table.

    Args:
        file: the open file.
        selection: the table and its rows.
        ticks_per_second: spike times of the file per second; None for seconds that are checked.

    Raises:
        DataError: there is no units table or it has no spike times; its columns do not fit one another; no unit is
            selected; spike times are not finite, not ascending within each unit, not in seconds, or those of another
            unit; a unit id occurs twice.
    """
    table = find_units_table(file, selection.table)
    label = table_label(table)
    units, stored_dtype = _read_unchecked(table)
    if ticks_per_second is not None:
        units = replace(units, times=units.times / ticks_per_second)
    if selection.renumber:
        units = replace(units, id=np.arange(len(units)))
    if selection.rows is not None:
        units = units.select(read_selected_rows(table, selection.rows, "units"))
    _check_unique(units.id, label)
    check_spike_times(units.times, units.time_stops, units.id, stored_dtype, ticks_per_second, label)
    return units


def read_unchecked_units(file: h5py.File) -> tuple[Units, float | None]:
    """Reads all units with ids and times as stored, which may not be those of distinct units in seconds.

    Args:
        file: the open file.

    Returns:
        The units, with the columns by which they can be selected, and the resolution of their times in s, usually one
        sample; None if it is not in the file.

    Raises:
        DataError: there is no units table, or several could be it; its columns do not fit one another; spike times are
            not finite.
    """
    table = find_units_table(file, None)
    resolution = np.asarray(table["spike_times"].attrs.get("resolution", np.nan))
    is_given = resolution.dtype.kind == "f" and resolution.size == 1 and bool(resolution > 0)
    columns = {name: read_selection_column(table, name) for name in selection_columns(table)}
    return replace(_read_unchecked(table)[0], columns=columns), float(resolution.item()) if is_given else None


def has_units(file: h5py.File) -> bool:
    """Whether the file has a units table with spike times."""
    return bool(_tables_of_units(file))


def _read_unchecked(table: h5py.Group) -> tuple[Units, np.dtype]:
    """Returns the units of a table with ids and times as stored, and the type of the times."""
    stored_times = read_numbers(table, "spike_times")
    time_stops = read_row_stops(table, "spike_times", len(stored_times))
    unit_id = _read_ids(table, len(time_stops))
    times = stored_times.astype(np.float64)
    if not np.isfinite(times).all():
        raise DataError(f"{table.file.filename} has spike times that are not finite; repair the units table")
    intervals, interval_stops = _read_obs_intervals(table)
    units = Units(unit_id, read_columns(table), times, time_stops, intervals, interval_stops)
    return units, stored_times.dtype


def find_units_table(file: h5py.File, name: str | None) -> h5py.Group:
    """Returns the units table of a name; None for `units`, or the only other table with spike times.

    Raises:
        DataError: there is no such table, or several could be it.
    """
    table = file.get("units")
    if name is None and isinstance(table, h5py.Group) and "spike_times" in table:
        return table
    tables = _tables_of_units(file)
    matches = tables if name is None else [(group, [path]) for group, path in paths_ending_with(name, tables)]
    if len(matches) == 1:
        return matches[0][0]
    available = " or ".join(paths[0] for _, paths in tables)
    if matches:
        raise DataError(f"{file.filename} has several units tables; set units.table to {available}")
    if available:
        raise DataError(f"{file.filename} has no units table {name}; set units.table to {available}")
    raise DataError(
        f"{file.filename}{_describe_format(file)} has no units table with spike_times; choose a file with sorted units"
        f"{describe_broken_links(file)}"
    )


def _describe_format(file: h5py.File) -> str:
    """Returns a remark on a file that is not in NWB 2; empty for one that is."""
    version = file.attrs.get("nwb_version", "")
    version = version.decode(errors="replace") if isinstance(version, bytes) else str(version)
    if version.startswith("2"):
        return ""
    old = file.get("nwb_version")
    return " is in NWB 1 (convert it to NWB 2) and" if isinstance(old, h5py.Dataset) else " is not an NWB 2 file and"


def _tables_of_units(file: h5py.File) -> list[tuple[h5py.Group, list[str]]]:
    return distinct_groups(file, lambda group: "spike_times" in group and "spike_times_index" in group)


def _read_ids(table: h5py.Group, n_units: int) -> np.ndarray:
    if "id" not in table:
        return np.arange(n_units)
    unit_id = read_numbers(table, "id")
    if unit_id.dtype.kind not in "iu":
        raise DataError(f"id in {table_label(table)} is {unit_id.dtype}; ids are integers: repair the table")
    return unit_id.astype(np.int64)


def _check_unique(unit_id: np.ndarray, label: str) -> None:
    unique_ids, counts = np.unique(unit_id, return_counts=True)
    if len(unique_ids) < len(unit_id):
        repeated = unique_ids[counts > 1]
        raise DataError(
            f"{label} has {len(repeated)} unit ids that occur more than once (first: {repeated[0]}), so that ids do "
            "not tell units apart; set units.renumber: true to number units by row, or select units by units.column"
        )


def _read_obs_intervals(table: h5py.Group) -> tuple[np.ndarray | None, np.ndarray | None]:
    if "obs_intervals" not in table or not isinstance(table["obs_intervals"], h5py.Dataset):
        return None, None
    if not table["obs_intervals"].size:
        return None, None
    intervals = read_numbers(table, "obs_intervals", 2).astype(np.float64)
    stops = read_row_stops(table, "obs_intervals", len(intervals))
    return intervals, stops


def _ragged_slice(stops: np.ndarray, row: int) -> slice:
    return slice(stops[row - 1] if row else 0, stops[row])
