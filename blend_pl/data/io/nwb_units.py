"""Units tables of NWB files."""

from dataclasses import dataclass

import h5py
import numpy as np

from blend_pl.data.io.nwb_tables import Columns, read_columns, read_numbers, read_row_stops, table_label
from blend_pl.data.io.spike_order import check_spike_times
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


def read_units(file: h5py.File) -> Units:
    """Reads the units table.

    Raises:
        DataError: there is no units table or it has no spike times; its columns do not fit one another; spike times are
            not finite, not ascending within each unit, not in seconds, or those of another unit; a unit id occurs
            twice.
    """
    table = file.get("units")
    if not isinstance(table, h5py.Group) or "spike_times" not in table:
        raise DataError(f"{file.filename} has no units table with spike_times; choose a file with sorted units")
    label = table_label(table)
    stored_times = read_numbers(table, "spike_times")
    time_stops = read_row_stops(table, "spike_times", len(stored_times))
    unit_id = _read_ids(table, len(time_stops))
    times = stored_times.astype(np.float64)
    if not np.isfinite(times).all():
        raise DataError(f"{file.filename} has spike times that are not finite; repair the units table")
    check_spike_times(times, time_stops, unit_id, stored_times.dtype, label)
    intervals, interval_stops = _read_obs_intervals(table)
    return Units(unit_id, read_columns(table), times, time_stops, intervals, interval_stops)


def _read_ids(table: h5py.Group, n_units: int) -> np.ndarray:
    if "id" not in table:
        return np.arange(n_units)
    unit_id = read_numbers(table, "id")
    if unit_id.dtype.kind not in "iu":
        raise DataError(f"id in {table_label(table)} is {unit_id.dtype}; ids are integers: repair the table")
    unique_ids, counts = np.unique(unit_id, return_counts=True)
    if len(unique_ids) < n_units:
        repeated = unique_ids[counts > 1]
        raise DataError(
            f"{table_label(table)} has {len(repeated)} unit ids that occur more than once (first: {repeated[0]}), so "
            "that ids do not tell units apart; give each unit an id of its own"
        )
    return unit_id.astype(np.int64)


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
