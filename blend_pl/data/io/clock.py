"""Units of time of a recording: those that a setting names, and checks that clocks of one file agree."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from blend_pl.errors import ConfigError, DataError
from blend_pl.utils.checks import POSITIVE, check_range

COARSEST_RESOLUTION_S = 1e-3
"""Coarsest distance between neighboring values of a type in which times are read."""
MAX_SPAN_RATIO = 100.0
"""Largest ratio of the time spans of spikes and of another part of a recording that is not taken for another unit."""
MAX_RATE_HZ = 500.0
"""Highest mean rate of units; above it, spikes of several trials lie on top of one another."""
MIN_RATE_HZ = 0.05
"""Lowest mean rate of units in a recording of hours; below it, times are not seconds."""
LONG_RECORDING_S = 3 * 3600.0
MAX_DURATION_RATIO = 1.2
"""Largest ratio of the durations of spikes, converted by a setting, and of the rest that is not described."""
_MIN_SPIKES = 20
_FIRST_TIMES = 1000
_QUANTILE_SAMPLES = 10_000
_TOLERANCE_S = 1.0
_MS_RATIOS = (300.0, 3000.0)


@dataclass(frozen=True)
class ClockSpec:
    """Units of time in a file whose times are not seconds since the start of the session.

    Attributes:
        spikes: unit of spike times: "s", "ms" or "samples"; None for seconds, which are refused where other times of
            the file contradict them. "s" is not checked.
        rate_hz: sampling rate of `spikes: samples`.
        events: "session" or "trial", the start from which the events of trials count (`window.align` and
            `scoring_window`); None for the session, which is refused where most events are outside of their trials.
    """

    spikes: Literal["s", "ms", "samples"] | None = None
    rate_hz: float | None = None
    events: Literal["session", "trial"] | None = None

    def __post_init__(self) -> None:
        check_range(POSITIVE, rate_hz=self.rate_hz)
        if (self.spikes == "samples") != (self.rate_hz is not None):
            raise ConfigError("clock.rate_hz is the sampling rate of clock.spikes: samples; set both or neither")

    @property
    def ticks_per_second(self) -> float | None:
        """Spike times per second; None for seconds that are checked."""
        return self.rate_hz if self.spikes == "samples" else {"s": 1.0, "ms": 1000.0, None: None}[self.spikes]


def coarse_dtype(times: np.ndarray, stored_dtype: np.dtype) -> np.dtype | None:
    """Returns the floating point type below float64 that times were rounded to; None if they were not.

    Args:
        times: finite times.
        stored_dtype: their type in the file. Some writers convert float32 to float64, which restores no digits.
    """
    if stored_dtype.kind == "f" and stored_dtype.itemsize < 8:
        return stored_dtype
    single = np.dtype(np.float32)
    if stored_dtype.kind != "f":
        return None
    # The first times decide in nearly all files.
    for part in (times[:_FIRST_TIMES], times):
        with np.errstate(over="ignore"):
            if not (part.astype(single) == part).all():
                return None
    # Eighths of seconds are exact in both types.
    return single if (times * 8 % 1 != 0).any() else None


def coarse_resolution(times: np.ndarray, stored_dtype: np.dtype) -> tuple[np.dtype, float] | None:
    """Returns the type below float64 that times were rounded to and its resolution; None if they were not.

    Args:
        times: finite times.
        stored_dtype: their type in the file.

    Returns:
        The type, and the distance of neighboring values at the largest time, in the unit of the times.
    """
    dtype = coarse_dtype(times, stored_dtype)
    if dtype is None or not len(times):
        return None
    return dtype, float(np.spacing(np.array(np.abs(times).max(), dtype=dtype)))


def check_spike_clock(times: np.ndarray, n_units: int, other_times: Mapping[str, np.ndarray], label: str) -> None:
    """Checks that spike times are seconds of the clock of the other times of a recording.

    Args:
        times: (spikes,) s, of all units.
        n_units: number of units.
        other_times: times in s by what they are, e.g. timestamps of a series; those that are not finite do not count.
        label: the file, for error messages.

    Raises:
        DataError: spikes and other times do not overlap, one lasts a hundred times as long as the other, or rates are
            not those of neurons.
    """
    if len(times) < _MIN_SPIKES:
        return
    first, last = float(times.min()), float(times.max())
    override = "or set clock.spikes: s if they are right"
    agrees_with_another = False
    for name, values in other_times.items():
        is_finite = np.isfinite(values)
        finite = values if is_finite.all() else values[is_finite]
        if len(finite) < 2:
            continue
        start, stop = float(finite.min()), float(finite.max())
        spans = f"the spikes of {label} are from {first:g} to {last:g} s and {name} from {start:g} to {stop:g} s"
        if first > stop + _TOLERANCE_S or last < start - _TOLERANCE_S:
            raise DataError(f"{spans}: they do not overlap; write both in seconds of one clock, {override}")
        # Quantiles, for single times may be wrong.
        low, high = np.quantile(finite[:: 1 + len(finite) // _QUANTILE_SAMPLES], [0.1, 0.9])
        ratio = max(last - first, 1e-3) / max((high - low) / 0.8, 1e-3)
        if ratio > MAX_SPAN_RATIO:
            unit = "ms" if _MS_RATIOS[0] < ratio < _MS_RATIOS[1] else "samples (with clock.rate_hz) or ms"
            raise DataError(
                f"{spans}, {ratio:.0f} times as long: spike times are not seconds; set clock.spikes: {unit}, {override}"
            )
        if ratio < 1 / MAX_SPAN_RATIO:
            raise DataError(
                f"{spans}, {1 / ratio:.0f} times as long: spike times count from the start of each trial, or the "
                f"others are not seconds; write both in seconds of one clock, {override}"
            )
        agrees_with_another = True
    _check_rates(len(times), n_units, last - first, agrees_with_another, label, override)


def describe_duration(times: np.ndarray, clock: ClockSpec, other_times: Mapping[str, np.ndarray]) -> str:
    """Returns a line if spike times, converted by a setting, last longer or shorter than the longest of the others.

    Args:
        times: (spikes,) s, of all units.
        clock: the setting; seconds are not described.
        other_times: as in `check_spike_clock`.

    Returns:
        The line; empty if the durations agree to `MAX_DURATION_RATIO`, or if there is nothing to compare with.
    """
    durations = {name: _duration(values) for name, values in other_times.items()}
    longest = max(durations, key=lambda name: durations[name], default=None)
    if clock.spikes not in ("ms", "samples") or longest is None or len(times) < _MIN_SPIKES or not durations[longest]:
        return ""
    ratio = _duration(times) / durations[longest]
    if 1 / MAX_DURATION_RATIO <= ratio <= MAX_DURATION_RATIO:
        return ""
    setting = f"clock.rate_hz: {clock.rate_hz:g}" if clock.spikes == "samples" else "clock.spikes: ms"
    return (
        f"with {setting}, the spikes last {_duration(times):.4g} s, {ratio:.3g} times as long as {longest} "
        f"({durations[longest]:.4g} s); check {setting.partition(':')[0]}"
    )


def _duration(times: np.ndarray) -> float:
    finite = times[np.isfinite(times)]
    return float(np.ptp(finite)) if len(finite) else 0.0


def check_events_in_recording(
    events: np.ndarray, times: np.ndarray, intervals: np.ndarray | None, name: str, label: str
) -> None:
    """Checks that most trials that were recorded are between the first and the last spike.

    Args:
        events: (trials,) time of each trial's event in s, NaN for none.
        times: (spikes,) s, of all units.
        intervals: (rows, 2) s in which any unit was observed; None if the file does not say so.
        name: name of the events, for error messages.
        label: the file, for error messages.

    Raises:
        DataError: more than half of the trials are before the first or after the last spike.
    """
    events = events[np.isfinite(events)]
    if intervals is not None and len(intervals):
        is_after_start = np.searchsorted(np.sort(intervals[:, 0]), events, side="right")
        events = events[is_after_start > np.searchsorted(np.sort(intervals[:, 1]), events, side="right")]
    if len(times) < _MIN_SPIKES or not len(events):
        return
    first, last = times.min() - _TOLERANCE_S, times.max() + _TOLERANCE_S
    outside = (events < first) | (events > last)
    if outside.mean() > 0.5:
        raise DataError(
            f"{outside.sum()} of {len(events)} trials of {label} have {name} outside of the spikes (first: "
            f"{events[outside][0]:g} s; spikes from {times.min():g} to {times.max():g} s): spike times count from the "
            "start of each trial, or the clocks differ; write both in seconds of one clock, or set clock.spikes: s if "
            "they are right"
        )


def _check_rates(
    n_spikes: int, n_units: int, duration_s: float, agrees_with_another: bool, label: str, override: str
) -> None:
    rate_hz = n_spikes / max(n_units, 1) / max(duration_s, 1e-3)
    if rate_hz > MAX_RATE_HZ:
        raise DataError(
            f"the units of {label} fire at {rate_hz:.0f} Hz from the first to the last spike ({duration_s:.3g} s): "
            f"spike times count from the start of each trial, or are not seconds; write seconds, {override}"
        )
    if rate_hz < MIN_RATE_HZ and duration_s > LONG_RECORDING_S and not agrees_with_another:
        raise DataError(
            f"the units of {label} fire at {rate_hz:.2g} Hz for {duration_s / 3600:.1f} hours if spike times are "
            f"seconds; set clock.spikes: ms or samples (with clock.rate_hz), {override}"
        )
