"""Trials of time series in memory, of pynapple and temporaldata, which are recognized without importing them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from blend_pl.data.io.nwb import TimeSeries, Units
from blend_pl.data.nlb.array_trials import to_numpy
from blend_pl.data.nlb.behavior import bin_behavior, check_behavior_series, slice_behavior
from blend_pl.data.nlb.binning import SpikeTrains, to_ms
from blend_pl.data.nlb.spec import BehaviorSpec, WindowSpec
from blend_pl.data.nlb.windows import WindowShape, trial_windows
from blend_pl.data.resample import require_increasing
from blend_pl.errors import ConfigError, DataError

LIBRARIES = ("pynapple", "temporaldata")
_MAX_HOURS = 100


@dataclass(frozen=True)
class BinnedTrials:
    """Trials cut from time series; NaN after the end of a trial and where nothing was recorded.

    Attributes:
        spikes: (trials, bins, N) float32 counts.
        behavior: (trials, bins, D) float32; None without behavior.
        unit_id: (N,) int64 ids of the units.
        start_ms: start of the trials relative to their event.
        start_bin: (trials,) first bin of each trial on the grid of the recording.
    """

    spikes: np.ndarray
    behavior: np.ndarray | None
    unit_id: np.ndarray
    start_ms: int
    start_bin: np.ndarray


@dataclass(frozen=True)
class _SpikeTimes:
    """Spike times (s) of each unit, and the (S, 2) intervals (s) in which they were recorded."""

    times: list[np.ndarray]
    unit_id: np.ndarray
    support: np.ndarray


def is_time_series(value: Any) -> bool:
    """Whether a value is an object of pynapple or temporaldata."""
    return _library_of(value) is not None


def bin_time_series(
    spikes: Any,
    behavior: Any,
    trials: Any,
    window_ms: int | tuple[int, int] | None,
    bin_ms: int,
    forward_ms: int = 0,
    lag_ms: int = 0,
) -> BinnedTrials:
    """Cuts trials from spike times and behavior, and bins them as the trials of an NWB file.

    Bins are those of a grid whose edges are multiples of the bin width; a trial starts at the first edge at or after
    its start. Behavior is resampled by `bin_behavior`.

    Args:
        spikes: a pynapple.TsGroup, or a temporaldata.Data or IrregularTimeSeries with `unit_index`.
        behavior: a pynapple.Tsd or TsdFrame; a temporaldata time series; the path of an attribute of `spikes`, e.g.
            "cursor.vel"; None for none.
        trials: a pynapple.IntervalSet or temporaldata.Interval, (trials, 2) starts and ends, or (trials,) starts, in s;
            None for `spikes.trials` of a temporaldata.Data.
        window_ms: length of a trial from its start, or start and stop relative to it; None to end trials at their ends.
        bin_ms: bin width.
        forward_ms: length of the forward prediction after the window.
        lag_ms: delay of behavior relative to the spikes.

    Raises:
        ConfigError: settings contradict one another or the trials.
        DataError: an object cannot be used.
    """
    units = _read_spikes(spikes)
    starts, ends = _read_trials(trials, spikes)
    shape, start_ms, lengths = _trial_shape(starts, ends, window_ms, bin_ms, forward_ms)
    first_s, last_s = float(units.support[:, 0].min()), float(units.support[:, 1].max())
    if not last_s - first_s <= _MAX_HOURS * 3600:
        raise DataError(f"spikes last {(last_s - first_s) / 3600:.1f} hours if their times are seconds; pass seconds")
    # A shift by whole bins keeps the grid, and arrays need not begin at t = 0.
    shift_s = np.floor(first_s * 1000 / bin_ms) * bin_ms / 1000
    n_ms = round((last_s - shift_s) * 1000)
    trains = SpikeTrains.from_units(_units_table(units, shift_s), np.ones(len(units.unit_id), dtype=bool), n_ms)
    window = WindowSpec(start_ms, start_ms + shape.n_observed * bin_ms, "trials", forward_ms)
    windows = trial_windows(window, shape, starts - shift_s, lag_ms)
    counts = trains.counts(windows.start, shape.n_bins, bin_ms).astype(np.float32)
    after_end = np.arange(shape.n_bins) >= lengths[:, None]
    counts[after_end | ~trains.observed(windows.start, shape.n_bins, bin_ms)] = np.nan
    unrecorded = np.flatnonzero(np.isnan(counts).all(axis=(1, 2)))
    if len(unrecorded):
        raise DataError(
            f"trial {unrecorded[0]} starts at {starts[unrecorded[0]]:g} s, where no spikes were recorded "
            f"({first_s:g} to {last_s:g} s); leave out such trials ({len(unrecorded)}), or correct the times"
        )
    series = None
    if behavior is not None:
        source = _read_series(behavior, spikes, shift_s)
        check_behavior_series(source, BehaviorSpec(source.name), bin_ms, source.name)
        series = slice_behavior(bin_behavior(source, BehaviorSpec(source.name), n_ms, bin_ms), windows)
        series[after_end] = np.nan
    return BinnedTrials(counts, series, trains.unit_id, start_ms, windows.start)


def _library_of(value: Any) -> str | None:
    packages = (base.__module__.partition(".")[0] for base in type(value).__mro__)
    return next((package for package in packages if package in LIBRARIES), None)


def _read_spikes(spikes: Any) -> _SpikeTimes:
    kind = type(spikes).__name__
    if _library_of(spikes) == "pynapple":
        if not hasattr(spikes, "keys"):
            raise DataError(f"spikes are a pynapple.{kind}; pass a pynapple.TsGroup with the spike times of all units")
        ids = np.array(list(spikes.keys()), dtype=np.int64)
        times = [np.asarray(spikes[int(unit)].times(), dtype=np.float64) for unit in ids]
        return _checked(times, ids, np.asarray(spikes.time_support.values, dtype=np.float64))
    events = spikes if hasattr(spikes, "unit_index") else getattr(spikes, "spikes", None)
    if events is None or not hasattr(events, "unit_index"):
        raise DataError(
            f"spikes are a temporaldata.{kind} without spikes; pass a temporaldata.Data whose `spikes` have "
            "`timestamps` and `unit_index`"
        )
    unit_index = np.asarray(events.unit_index)
    n_units = len(spikes.units) if hasattr(spikes, "units") else int(unit_index.max(initial=-1)) + 1
    if unit_index.dtype.kind not in "iu" or not ((unit_index >= 0) & (unit_index < n_units)).all():
        raise DataError(f"unit_index of spikes must be integers from 0 to {n_units - 1}, the last of the units")
    timestamps = np.asarray(events.timestamps, dtype=np.float64)
    order = np.argsort(unit_index, kind="stable")
    times = np.split(timestamps[order], np.searchsorted(unit_index[order], np.arange(1, n_units)))
    domain = np.stack([np.asarray(events.domain.start), np.asarray(events.domain.end)], axis=1).astype(np.float64)
    return _checked(times, np.arange(n_units), domain)


def _checked(times: list[np.ndarray], ids: np.ndarray, support: np.ndarray) -> _SpikeTimes:
    if not times or not sum(map(len, times)):
        raise DataError("spikes have no spike times; pass the spike times of sorted units")
    if not all(np.isfinite(unit_times).all() for unit_times in times) or not np.isfinite(support).all():
        raise DataError("spikes have times that are not finite; remove them")
    return _SpikeTimes([np.sort(unit_times) for unit_times in times], ids, support)


def _units_table(units: _SpikeTimes, shift_s: float) -> Units:
    n_units = len(units.times)
    return Units(
        id=units.unit_id,
        columns={},
        times=np.concatenate(units.times) - shift_s,
        time_stops=np.cumsum([len(unit_times) for unit_times in units.times]),
        intervals=np.tile(units.support - shift_s, (n_units, 1)),
        interval_stops=np.arange(1, n_units + 1) * len(units.support),
    )


def _read_trials(trials: Any, spikes: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the (trials,) starts and the ends of trials, s; ends are None if only starts are given."""
    if trials is None:
        trials = getattr(spikes, "trials", None) if _library_of(spikes) == "temporaldata" else None
        if trials is None:
            raise DataError("spike times need trials; pass trials= as an IntervalSet, or as an array of starts (s)")
    if is_time_series(trials):
        if not (hasattr(trials, "start") and hasattr(trials, "end")):
            raise DataError(f"trials are of type {type(trials).__name__}; pass intervals with start and end")
        bounds = np.stack([np.asarray(trials.start), np.asarray(trials.end)], axis=1)
    else:
        bounds = to_numpy(trials)
    if bounds.dtype.kind not in "iuf" or bounds.ndim not in (1, 2) or (bounds.ndim == 2 and bounds.shape[1] != 2):
        raise DataError(
            f"trials have the shape {bounds.shape}; expected (trials,) starts or (trials, 2) starts and ends, s"
        )
    bounds = bounds.astype(np.float64)
    if not len(bounds) or not np.isfinite(bounds).all():
        raise DataError("trials have no rows, or times that are not finite; leave out such trials")
    return (bounds, None) if bounds.ndim == 1 else (bounds[:, 0], bounds[:, 1])


def _trial_shape(
    starts: np.ndarray,
    ends: np.ndarray | None,
    window_ms: int | tuple[int, int] | None,
    bin_ms: int,
    forward_ms: int,
) -> tuple[WindowShape, int, np.ndarray]:
    """Returns the shape of all trials, their start relative to the event (ms), and the (trials,) lengths in bins."""
    n_forward = forward_ms // bin_ms
    if window_ms is not None:
        start_ms, stop_ms = (0, window_ms) if isinstance(window_ms, (int, np.integer)) else map(int, window_ms)
        if stop_ms <= start_ms or (stop_ms - start_ms) % bin_ms:
            raise ConfigError(
                f"window_ms is {window_ms}; its length must be positive and a multiple of bin_ms ({bin_ms})"
            )
        shape = WindowShape((stop_ms - start_ms) // bin_ms, n_forward, bin_ms)
        return shape, start_ms, np.full(len(starts), shape.n_bins)
    if ends is None:
        raise ConfigError("trials have only starts; pass window_ms, the length of a trial in ms")
    lengths = (to_ms(ends) - to_ms(starts)) // bin_ms
    if lengths.min() < 1:
        trial = int(lengths.argmin())
        raise DataError(
            f"trial {trial} lasts from {starts[trial]:g} to {ends[trial]:g} s, less than one bin; leave it out"
        )
    if int(lengths.max()) <= n_forward:
        raise ConfigError(f"forward_ms is {forward_ms}, and the longest trial {lengths.max() * bin_ms} ms; choose less")
    return WindowShape(int(lengths.max()) - n_forward, n_forward, bin_ms), 0, lengths


def _read_series(behavior: Any, spikes: Any, shift_s: float) -> TimeSeries:
    name, series, values = "behavior", behavior, None
    if isinstance(behavior, str):
        name = behavior
        parent, _, attribute = behavior.rpartition(".")
        try:
            series = spikes.get_nested_attribute(parent)
            values = getattr(series, attribute)
        except (AttributeError, KeyError) as error:
            raise DataError(f"behavior is {behavior!r}, and spikes have no such attribute ({error})") from error
    library = _library_of(series)
    if library is None:
        raise DataError(
            f"behavior is of type {type(behavior).__name__}, and spikes are spike times; pass behavior as a time series"
        )
    if library == "pynapple":
        times, values = np.asarray(series.times()), getattr(series, "values", None)
    else:
        times = np.asarray(series.timestamps)
    if library == "temporaldata" and values is None:
        names = [key for key in series.keys() if key != "timestamps"]  # noqa: SIM118
        if len(names) != 1:
            raise DataError(f"behavior has the attributes {', '.join(names)}; pass one by its path, as in 'cursor.vel'")
        name, values = names[0], getattr(series, names[0])
    data = np.asarray(values) if values is not None else np.empty(0)
    if data.ndim == 1:
        data = data[:, None]
    if data.dtype.kind not in "biuf" or data.ndim != 2 or len(data) != len(times) or len(times) < 2:
        raise DataError(
            f"{name} has values of the shape {data.shape} at {len(times)} times; expected (samples, D) numbers"
        )
    require_increasing(times, name)
    data = data.astype(np.float32 if data.dtype == np.float32 else np.float64)
    return TimeSeries(name, times.astype(np.float64) - shift_s, data, [])
