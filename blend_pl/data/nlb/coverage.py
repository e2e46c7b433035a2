"""When the units of a recording were observed: their own intervals, invalid times, and the extent of all spikes."""

from dataclasses import replace

import numpy as np

from blend_pl.data.io.nwb import Units
from blend_pl.errors import DataError

MIN_SILENCE_S = 5.0
"""Shortest silence of all units that is reported."""
MIN_EXPECTED_SPIKES = 100.0
"""Smallest number of spikes that a reported silence would have at the mean rate."""


def complete_obs_intervals(units: Units, bin_ms: int, path: str) -> Units:
    """Returns the units with finite observation intervals for each of them.

    An interval without an end lasts until the recording ends. Units with spikes and without intervals are observed from
    the first to the last bin in which any unit has a spike; units without either are not observed, unless no unit has
    intervals.

    Args:
        units: the units table.
        bin_ms: bin width, to which the extent of the spikes is rounded outwards.
        path: the file, for error messages.

    Raises:
        DataError: an interval has NaN or ends before it starts, or there are neither spikes nor finite intervals.
    """
    rows = [units.obs_intervals(unit) for unit in range(len(units))]
    stated = [np.empty((0, 2)) if intervals is None else intervals for intervals in rows]
    has_intervals = any(len(intervals) for intervals in stated)
    if not has_intervals and not len(units.times):
        raise DataError(f"{path} has no spikes; choose a file with sorted units")
    extent = _spike_extent(units.times, bin_ms)
    _check_intervals(stated, path)
    starts = np.concatenate([extent[:1], *(intervals[:, 0] for intervals in stated)])
    stops = np.concatenate([extent[1:], *(intervals[:, 1] for intervals in stated)])
    first, last = starts[np.isfinite(starts)].min(initial=np.inf), stops[np.isfinite(stops)].max(initial=-np.inf)
    if not first <= last:
        raise DataError(f"{path} has no spikes and open-ended obs_intervals; choose a file with sorted units")
    completed = []
    for unit, intervals in enumerate(stated):
        times = units.spike_times(unit)
        if not len(intervals) and (len(times) or not has_intervals):
            completed.append(extent[None])
            continue
        completed.append(np.stack([np.maximum(intervals[:, 0], first), np.minimum(intervals[:, 1], last)], axis=1))
    return _with_intervals(units, completed)


def require_spikes_inside(units: Units, path: str) -> None:
    """Checks that spikes and observation intervals have the same clock.

    Raises:
        DataError: all spikes are outside the intervals of their unit.
    """
    for unit in range(len(units)):
        intervals = units.obs_intervals(unit)
        assert intervals is not None
        if _contains(intervals, units.spike_times(unit)).any():
            return
    if len(units.times):
        assert units.intervals is not None
        raise DataError(
            f"{path} has no spike in its obs_intervals ({units.intervals.min(initial=np.inf):g} to "
            f"{units.intervals.max(initial=-np.inf):g} s; spikes from {units.times.min():g} to {units.times.max():g} "
            "s); write both in seconds of the same clock"
        )


def without_invalid_times(units: Units, invalid_times: np.ndarray, bin_ms: int) -> Units:
    """Returns the units with observation intervals from which invalid times are removed.

    Args:
        units: units with intervals.
        invalid_times: (rows, 2) s, which may overlap; infinite where open-ended. They are rounded outwards to bins.
        bin_ms: bin width.
    """
    if not len(invalid_times):
        return units
    bin_s = bin_ms / 1000.0
    starts = np.floor(np.round(invalid_times[:, 0] / bin_s, 6)) * bin_s
    stops = np.ceil(np.round(invalid_times[:, 1] / bin_s, 6)) * bin_s
    remaining = []
    for unit in range(len(units)):
        intervals = units.obs_intervals(unit)
        assert intervals is not None
        for start, stop in zip(starts, stops, strict=True):
            before = np.stack([intervals[:, 0], np.minimum(intervals[:, 1], start)], axis=1)
            after = np.stack([np.maximum(intervals[:, 0], stop), intervals[:, 1]], axis=1)
            intervals = np.concatenate([before, after])
            intervals = intervals[intervals[:, 0] < intervals[:, 1]]
        remaining.append(intervals[np.argsort(intervals[:, 0], kind="stable")])
    return _with_intervals(units, remaining)


def longest_silence(units: Units, invalid_times: np.ndarray) -> tuple[float, float] | None:
    """Returns the longest time without a spike of any unit, outside invalid times, if it is longer than expected.

    Args:
        units: the units.
        invalid_times: (rows, 2) s.

    Returns:
        Start and stop in s; None if it is shorter than `MIN_SILENCE_S`, or if fewer than `MIN_EXPECTED_SPIKES` spikes
        are expected in it.
    """
    times = np.sort(np.concatenate([units.times, invalid_times[np.isfinite(invalid_times)]]))
    gaps = np.diff(times)
    if len(invalid_times):
        centers = times[:-1] + gaps / 2
        gaps[((centers[:, None] > invalid_times[:, 0]) & (centers[:, None] < invalid_times[:, 1])).any(axis=1)] = 0.0
    if not len(gaps):
        return None
    longest = int(np.argmax(gaps))
    rate = len(units.times) / max(float(times[-1] - times[0] - gaps[longest]), 1e-9)
    if gaps[longest] < MIN_SILENCE_S or rate * gaps[longest] < MIN_EXPECTED_SPIKES:
        return None
    return float(times[longest]), float(times[longest + 1])


def relative_seconds(seconds: np.ndarray, start_s: float) -> np.ndarray:
    """Returns times relative to the start of a recording.

    Differences are rounded to the resolution of the original numbers, which is 1 us for Unix time.
    """
    if not start_s:
        return seconds
    decimals = int(np.clip(np.floor(-np.log10(2 * np.spacing(abs(start_s)))), 0, 12))
    return np.round(seconds - start_s, decimals)


def shifted_units(units: Units, start_s: float) -> Units:
    """Returns the units with times and intervals relative to the start of a recording."""
    if not start_s:
        return units
    intervals = None if units.intervals is None else relative_seconds(units.intervals, start_s)
    return replace(units, times=relative_seconds(units.times, start_s), intervals=intervals)


def _spike_extent(times: np.ndarray, bin_ms: int) -> np.ndarray:
    """Returns (2,) s: the start of the first and the end of the last bin with a spike; without spikes (inf, -inf)."""
    if not len(times):
        return np.array([np.inf, -np.inf])
    bins = np.floor(np.round(np.array([times.min(), times.max()]) * 1000.0, 6) / bin_ms)
    return (bins + np.arange(2)) * (bin_ms / 1000.0)


def _check_intervals(stated: list[np.ndarray], path: str) -> None:
    for unit, intervals in enumerate(stated):
        invalid = np.flatnonzero(~(intervals[:, 0] <= intervals[:, 1]))
        if len(invalid):
            start, stop = intervals[invalid[0]]
            raise DataError(
                f"{path} has the obs_interval {start:g} to {stop:g} s of the unit in row {unit}; write a start and a "
                "later end, infinite if it is open"
            )


def _contains(intervals: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Returns (times,) bool, whether each time is in some interval."""
    starts, stops = np.sort(intervals[:, 0]), np.sort(intervals[:, 1])
    return np.asarray(np.searchsorted(starts, times, side="right") > np.searchsorted(stops, times, side="left"))


def _with_intervals(units: Units, intervals: list[np.ndarray]) -> Units:
    return replace(
        units,
        intervals=np.concatenate([np.empty((0, 2)), *intervals]),
        interval_stops=np.cumsum([len(unit_intervals) for unit_intervals in intervals], dtype=np.int64),
    )
