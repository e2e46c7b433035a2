"""Contents of an NWB file, for a person: units, time series and trials."""

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.io.nwb import Columns, Units, open_nwb, read_time_series, read_trials, read_units
from blend_pl.data.io.nwb_series import time_series_paths
from blend_pl.data.io.nwb_tables import largest_interval_table, trial_bounds
from blend_pl.data.io.nwb_units import has_units, read_unchecked_units
from blend_pl.data.io.series_values import series_type, series_unit
from blend_pl.data.io.unit_settings import UnitSettings, choose_unit_settings
from blend_pl.errors import DataError

MAX_VALUES = 200_000_000
"""Series with more values are not read."""
NO_UNITS = Units(np.empty(0, np.int64), {}, np.empty(0), np.empty(0, np.int64), None, None)


@dataclass(frozen=True)
class SeriesContents:
    """A time series.

    Attributes:
        path: path in the file.
        neurodata_type: its type.
        shape: shape of its data.
        unit: its unit; empty if not in the file.
        first_s: time of the first sample; NaN if it was not read.
        last_s: time of the last sample.
        rate_hz: inverse of the median distance of samples.
        longest_gap_s: longest distance of samples.
        nan_fraction: fraction of values that are NaN.
        problem: why it was not read; empty if it was.
    """

    path: str
    neurodata_type: str
    shape: tuple[int, ...]
    unit: str
    first_s: float = float("nan")
    last_s: float = float("nan")
    rate_hz: float = float("nan")
    longest_gap_s: float = float("nan")
    nan_fraction: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class FileContents:
    """Contents of a file.

    Attributes:
        path: the file.
        units: units table, read with `unit_settings`; without rows if the file has none.
        rates_hz: (N,) spikes per second of the time in which a unit was observed.
        coverage: (N,) fraction of the recording in which each unit was observed; None without obs_intervals.
        series: its time series.
        trials: columns of the trials table; None without a table.
        trials_table: path of the table that is taken for the trials table; None for `intervals/trials`.
        unit_settings: settings with which the units can be read.
    """

    path: Path
    units: Units
    rates_hz: np.ndarray
    coverage: np.ndarray | None
    series: list[SeriesContents]
    trials: Columns | None
    trials_table: str | None
    unit_settings: UnitSettings

    @property
    def spans(self) -> dict[str, tuple[float, float]]:
        """First and last time of each series and of the trials, s."""
        return _spans(self.series, self.trials)


def read_contents(path: Path) -> FileContents:
    """Reads what a file holds.

    Raises:
        DataError: the file cannot be read, or its units cannot.
    """
    with open_nwb(path) as file:
        trials_table = None if "intervals/trials" in file else largest_interval_table(file)
        trials = read_trials(file, trials_table)
        series = [_read_series(file, name) for name in time_series_paths(file)]
        units, unit_settings = NO_UNITS, UnitSettings()
        if has_units(file):
            rates_hz = [item.rate_hz for item in series if item.neurodata_type == "ElectricalSeries" and item.rate_hz]
            unit_settings = choose_unit_settings(*read_unchecked_units(file), _spans(series, trials), rates_hz)
            units = read_units(file, unit_settings.selection, unit_settings.clock.ticks_per_second)
    n_spikes = np.array([len(units.spike_times(unit)) for unit in range(len(units))], dtype=np.int64)
    extent_s = float(np.ptp(units.times)) if len(units.times) else 0.0
    observed_s = np.full(len(units), extent_s)
    coverage = None
    if units.intervals is not None and len(units.intervals):
        observed_s = np.array([_total(units.obs_intervals(unit)) for unit in range(len(units))])
        finite = units.intervals[np.isfinite(units.intervals).all(axis=1)]
        coverage = observed_s / max(float(np.ptp(finite)) if len(finite) else 0.0, 1e-9)
    return FileContents(
        path,
        units,
        n_spikes / np.maximum(observed_s, 1e-9),
        coverage,
        series,
        trials,
        trials_table,
        unit_settings,
    )


def _spans(series: list[SeriesContents], trials: Columns | None) -> dict[str, tuple[float, float]]:
    """Returns the first and the last time of each series and of the trials."""
    spans = {item.path: (item.first_s, item.last_s) for item in series if np.isfinite(item.first_s)}
    times = trial_bounds(trials)
    return spans | ({"trials": (float(times.min()), float(times.max()))} if len(times) > 1 else {})


def _total(intervals: np.ndarray | None) -> float:
    if intervals is None:
        return 0.0
    lengths = np.diff(intervals, axis=1)
    return float(lengths[np.isfinite(lengths)].sum())


def _read_series(file: h5py.File, path: str) -> SeriesContents:
    group = file[path]
    shape = tuple(getattr(group["data"], "shape", ()))
    described = SeriesContents(path, series_type(group), shape, series_unit(group))
    if np.prod(shape, dtype=float) > MAX_VALUES:
        return replace(described, problem="too large for behavior, not read")
    try:
        series = read_time_series(file, path)
    except DataError as error:
        return replace(described, problem=str(error))
    times = series.timestamps[np.isfinite(series.timestamps)]
    gaps = np.diff(times) if len(times) > 1 else np.array([np.inf])
    return SeriesContents(
        path,
        described.neurodata_type,
        shape,
        described.unit,
        float(times[0]),
        float(times[-1]),
        1.0 / float(np.median(gaps)),
        float(gaps.max()),
        float(np.isnan(series.data).mean()),
    )
