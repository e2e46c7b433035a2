"""Units, trials and time series of NWB files as numpy arrays, read with h5py alone."""

from blend_pl.data.io.nwb_file import open_nwb, read_subject_id
from blend_pl.data.io.nwb_series import TimeSeries, find_series, has_time_series, read_time_series
from blend_pl.data.io.nwb_tables import Columns, read_invalid_times, read_trials, require_column, require_columns
from blend_pl.data.io.nwb_units import Units, read_units

__all__ = [
    "Columns",
    "TimeSeries",
    "Units",
    "find_series",
    "has_time_series",
    "open_nwb",
    "read_invalid_times",
    "read_subject_id",
    "read_time_series",
    "read_trials",
    "read_units",
    "require_column",
    "require_columns",
]
