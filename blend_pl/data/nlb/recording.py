"""Reader of one NWB file of a session."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blend_pl.data.io.nwb import (
    Columns,
    TimeSeries,
    Units,
    has_time_series,
    open_nwb,
    read_time_series,
    read_trials,
    read_units,
)
from blend_pl.data.nlb.behavior import bin_behavior
from blend_pl.data.nlb.binning import to_ms
from blend_pl.data.nlb.spec import BehaviorSpec
from blend_pl.errors import DataError

_MAX_HOURS = 100


@dataclass(frozen=True)
class NLBRecording:
    """Content of one file.

    Attributes:
        path: the file, for error messages.
        units: units table.
        trials: one-dimensional columns of the trials table; None without a table.
        behavior: (bins, D) of the whole recording; None without the series.
        n_ms: length of the recording.
    """

    path: Path
    units: Units
    trials: Columns | None
    behavior: np.ndarray | None
    n_ms: int


def read_nlb_recording(path: Path, behavior: BehaviorSpec | None, bin_ms: int, behavior_required: bool) -> NLBRecording:
    """Reads a file and bins its behavior, so that the raw series is freed.

    Args:
        path: the NWB file.
        behavior: names the privileged series; None for none.
        bin_ms: bin width.
        behavior_required: whether a file without the series is an error.

    Raises:
        DataError: the file is damaged, has no units, does not use seconds, or its series is missing or unusable.
        ConfigError: `behavior.columns` do not match the series.
    """
    with open_nwb(path) as file:
        units, trials = read_units(file), read_trials(file)
        series_name = behavior.series if behavior else None
        series = (
            read_time_series(file, series_name)
            if series_name and (behavior_required or has_time_series(file, series_name))
            else None
        )
    n_ms = _length_ms(units, trials, series)
    if n_ms > _MAX_HOURS * 3_600_000:
        raise DataError(
            f"{path} lasts {n_ms / 3_600_000:.1f} hours if its times are seconds; write times and intervals in seconds"
        )
    binned = bin_behavior(series, behavior, n_ms, bin_ms) if behavior is not None and series is not None else None
    return NLBRecording(path, units, trials, binned, n_ms)


def _length_ms(units: Units, trials: Columns | None, series: TimeSeries | None) -> int:
    """Returns the end of the last observation interval, or without intervals the end of all data in the file."""
    if units.intervals is not None and units.interval_stops is not None:
        has_rows = np.diff(units.interval_stops, prepend=0) > 0
        return round(float(units.intervals[units.interval_stops[has_rows] - 1, 1].max()) * 1000.0)
    ends = [0.0, units.times.max(initial=0.0)]
    if series is not None:
        ends.append(series.timestamps[-1])
    stops = trials.get("stop_time") if trials else None
    if stops is not None and stops.dtype.kind == "f":
        ends.append(np.nanmax(stops, initial=0.0))
    return int(to_ms(np.array(max(ends)))) + 1
