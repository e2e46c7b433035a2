"""Reader of one NWB file of a session."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blend_pl.data.io.clock import check_events_in_recording, check_spike_clock, describe_duration
from blend_pl.data.io.nwb import (
    Columns,
    TimeSeries,
    Units,
    open_nwb,
    read_invalid_times,
    read_trials,
    read_units,
)
from blend_pl.data.io.nwb_tables import trial_bounds
from blend_pl.data.io.remote import RemoteFile
from blend_pl.data.nlb.behavior import bin_behavior, whole_rows
from blend_pl.data.nlb.behavior_series import read_behavior_series
from blend_pl.data.nlb.behavior_target import derive_target
from blend_pl.data.nlb.binning import to_ms
from blend_pl.data.nlb.coverage import (
    complete_obs_intervals,
    longest_silence,
    relative_seconds,
    require_spikes_inside,
    shifted_units,
    without_invalid_times,
)
from blend_pl.data.nlb.event_times import session_event_times
from blend_pl.data.nlb.spec import SessionSpec
from blend_pl.errors import DataError

_MAX_HOURS = 100
_MAX_START_S = 3600.0
"""Times are taken relative to the start of recordings that start later than this, or before 0."""


@dataclass(frozen=True)
class NLBRecording:
    """Content of one file.

    Attributes:
        path: the file, for error messages.
        units: units table, times relative to `start_s`; each unit has the intervals in which it was observed.
        trials: columns of the trials table as in the file; None without a table.
        behavior: (bins, D) of the whole recording; None without the series.
        n_ms: length of the recording from `start_s`.
        start_s: start of the grid of bins in the file's time, a multiple of the bin width; 0 for all recordings that
            start in the first hour after 0.
        invalid_fraction: fraction of the recording in `intervals/invalid_times`.
        silence: in a file without obs_intervals, the longest time without any spike if it is much longer than expected;
            (start, stop) in s in the file's time.
        unaccompanied_fraction: in a file without obs_intervals, fraction of the series outside the time with spikes.
        partial_fraction: fraction of the bins with behavior in which a part of the columns is missing.
        clock_remark: a line if a conversion of spike times makes their duration differ from that of the rest.
    """

    path: Path | RemoteFile
    units: Units
    trials: Columns | None
    behavior: np.ndarray | None
    n_ms: int
    start_s: float = 0.0
    invalid_fraction: float = 0.0
    silence: tuple[float, float] | None = None
    unaccompanied_fraction: float = 0.0
    partial_fraction: float = 0.0
    clock_remark: str = ""


def read_nlb_recording(
    path: Path | RemoteFile, spec: SessionSpec, bin_ms: int, behavior_required: bool
) -> NLBRecording:
    """Reads a file and bins its behavior, so that the raw series is freed.

    Behavior of sets with an archive stays as stored, because nlb_tools ignores the conversion of the file.

    Args:
        path: the NWB file.
        spec: names the units, the trials and the privileged series, and the units of their times.
        bin_ms: bin width.
        behavior_required: whether a file without the series is an error.

    Raises:
        DataError: the file is damaged, has no units, does not use seconds of one clock, or its series is missing or
            unusable.
        ConfigError: `behavior.columns` do not match the series.
    """
    behavior = spec.behavior
    with open_nwb(path) as file:
        units = read_units(file, spec.units, spec.clock.ticks_per_second)
        trials = read_trials(file, spec.trials, required=spec.window.align is not None)
        invalid_times = read_invalid_times(file)
        series = read_behavior_series(file, behavior, bin_ms, behavior_required, stored=spec.archive is not None)
    if trials is not None:
        trials = session_event_times(trials, spec, f"the trials table of {path}")
    units_in_file, series_in_file = units, series
    has_intervals = units.intervals is not None and len(units.intervals) > 0
    units = complete_obs_intervals(units, bin_ms, str(path))
    start_s = _start_of_grid(units, bin_ms)
    units, invalid_times = shifted_units(units, start_s), relative_seconds(invalid_times, start_s)
    if series is not None:
        series = replace(series, timestamps=relative_seconds(series.timestamps, start_s))
    n_ms = _length_ms(units, has_intervals, trials, series, start_s)
    if n_ms > _MAX_HOURS * 3_600_000:
        raise DataError(
            f"{path} lasts {n_ms / 3_600_000:.1f} hours if its times are seconds; write times and intervals in "
            "seconds, or set clock.spikes to their unit"
        )
    if spec.clock.spikes != "s":
        _check_clocks(units_in_file, trials, series_in_file, spec, str(path))
    other_times = {"the trials": trial_bounds(trials)}
    if series_in_file is not None:
        other_times[series_in_file.name] = series_in_file.timestamps
    clock_remark = describe_duration(units_in_file.times, spec.clock, other_times)
    require_spikes_inside(units, str(path))
    binned, partial_fraction = None, 0.0
    if behavior is not None and series is not None:
        binned, partial_fraction = whole_rows(bin_behavior(series, behavior, n_ms, bin_ms), f"{series.name} in {path}")
        binned = derive_target(binned, behavior, bin_ms)
    valid_units = without_invalid_times(units, invalid_times, bin_ms)
    invalid_fraction = 1.0 - _observed_s(valid_units) / max(_observed_s(units), 1e-9)
    silence, unaccompanied_fraction = None, 0.0
    if not has_intervals:
        silence = longest_silence(valid_units, invalid_times)
        if silence is not None:
            silence = (silence[0] + start_s, silence[1] + start_s)
        if series is not None and np.isfinite(series.timestamps[0]):
            unaccompanied_fraction = _fraction_outside(units, series)
    return NLBRecording(
        path,
        valid_units,
        trials,
        binned,
        n_ms,
        start_s,
        invalid_fraction,
        silence,
        unaccompanied_fraction,
        partial_fraction,
        clock_remark,
    )


def _check_clocks(
    units: Units, trials: Columns | None, series: TimeSeries | None, spec: SessionSpec, path: str
) -> None:
    """Checks that spikes, intervals, trials and behavior, with the times of the file, are in one clock."""
    other_times: dict[str, np.ndarray] = {}
    # The extent of open-ended intervals is not known.
    if units.intervals is not None and not np.isinf(units.intervals).any():
        other_times["obs_intervals"] = units.intervals.ravel()
    if series is not None:
        other_times[series.name] = series.timestamps
    align = spec.window.align
    if align is not None and trials is not None and align in trials and trials[align].dtype.kind == "f":
        check_events_in_recording(trials[align], units.times, units.intervals, align, path)
        other_times[align] = trials[align]
    check_spike_clock(units.times, len(units), other_times, path)


def _start_of_grid(units: Units, bin_ms: int) -> float:
    """Returns 0, or the last edge of the grid before a recording that starts before 0 or late; s."""
    assert units.intervals is not None
    first = min(units.times.min(initial=np.inf), units.intervals[:, 0].min(initial=np.inf))
    if not np.isfinite(first) or 0 <= first <= _MAX_START_S:
        return 0.0
    return float(np.floor(np.round(first * 1000.0, 6) / bin_ms) * bin_ms / 1000.0)


def _length_ms(
    units: Units, has_intervals: bool, trials: Columns | None, series: TimeSeries | None, start_s: float
) -> int:
    """Returns the end of the last observation interval, or of all data in a file without intervals, from `start_s`."""
    assert units.intervals is not None
    if has_intervals:
        return round(float(units.intervals[:, 1].max(initial=0.0)) * 1000.0)
    ends = [0.0, units.times.max(initial=0.0)]
    if series is not None:
        ends.append(series.timestamps[-1])
    stops = trials.get("stop_time") if trials else None
    if stops is not None and stops.dtype.kind == "f":
        ends.append(relative_seconds(stops[np.isfinite(stops)], start_s).max(initial=0.0))
    return int(to_ms(np.array(max(ends)))) + 1


def _fraction_outside(units: Units, series: TimeSeries) -> float:
    """Returns the fraction of the time of a series before the first and after the last observation interval."""
    assert units.intervals is not None
    first, last = series.timestamps[0], series.timestamps[-1]
    start, stop = units.intervals[:, 0].min(), units.intervals[:, 1].max()
    return float(1.0 - max(min(stop, last) - max(start, first), 0.0) / (last - first))


def _observed_s(units: Units) -> float:
    """Returns the time for which units were observed, summed over units, in s."""
    assert units.intervals is not None
    return float(np.diff(units.intervals, axis=1).sum())
