"""Checks of spike times as a file stores them: their order within units, their type, and repeated times."""

import logging

import numpy as np

from blend_pl.data.io.clock import COARSEST_RESOLUTION_S, coarse_resolution
from blend_pl.errors import DataError

MAX_DISORDER_S = 0.1
"""Largest step back between two spikes of a unit that is taken for an inexact order, as left by a sorter's merges."""
MAX_DISORDER_SHARE = 0.01
"""Largest share of spikes after a step back."""
_MIN_SPIKES = 10
"""Fewer spikes may be equal or whole numbers by chance."""
_FIRST_TIMES = 1000

log = logging.getLogger(__name__)


def check_spike_times(
    times: np.ndarray,
    time_stops: np.ndarray,
    unit_id: np.ndarray,
    stored_dtype: np.dtype,
    ticks_per_second: float | None,
    label: str,
) -> None:
    """Checks that the spike times of each unit are a sequence of times in seconds since one start.

    Spikes that a unit has at the same time, and an inexact order, are logged: they change no count.

    Args:
        times: (spikes,) float64 s, the finite times of all units, concatenated.
        time_stops: (N,) end of each unit's spikes in `times`.
        unit_id: (N,) ids, for error messages.
        stored_dtype: type of the times in the file.
        ticks_per_second: times of the file per second; None for seconds, which must not be whole numbers.
        label: table and file, for error messages.

    Raises:
        DataError: times descend, restart or have no order; are whole numbers of samples or milliseconds; are of a type
            that cannot resolve a millisecond; or two units have the same times.
    """
    _check_resolution(times, stored_dtype, ticks_per_second or 1.0, label)
    if ticks_per_second is None and len(times) >= _MIN_SPIKES and _are_whole(times):
        raise DataError(
            f"the spike times in {label} are whole numbers, from {times.min():g} to {times.max():g}: they are samples "
            "or milliseconds; set clock.spikes: ms, or clock.spikes: samples with clock.rate_hz, or write seconds"
        )
    unit_of_spike = np.repeat(np.arange(len(time_stops)), np.diff(time_stops, prepend=0))
    steps = np.diff(times)
    in_unit = unit_of_spike[1:] == unit_of_spike[:-1]
    _check_order(times, steps, in_unit, unit_of_spike, unit_id, label)
    repeated = np.flatnonzero((steps == 0) & in_unit)
    if len(repeated):
        n_units = len(np.unique(unit_of_spike[repeated]))
        log.warning(
            "%d of %d spike times in %s (%.2g %%) repeat the previous time of their unit, in %d of %d units; each "
            "counts as a spike",
            *(len(repeated), len(times), label, 100 * len(repeated) / len(times), n_units, len(time_stops)),
        )
    _check_same_units(times, time_stops, unit_id, label)


def _are_whole(times: np.ndarray) -> bool:
    # The first times decide in nearly all files.
    return all(bool((part == np.round(part)).all()) for part in (times[:_FIRST_TIMES], times))


def _check_resolution(times: np.ndarray, stored_dtype: np.dtype, ticks_per_second: float, label: str) -> None:
    ticks = times if ticks_per_second == 1.0 else times * ticks_per_second
    resolution = coarse_resolution(ticks, stored_dtype)
    if resolution is not None and resolution[1] / ticks_per_second > COARSEST_RESOLUTION_S:
        raise DataError(
            f"the spike times in {label} are {resolution[0]}, which resolves "
            f"{1000 * resolution[1] / ticks_per_second:.2g} ms at {np.abs(times).max():g} s; write them as float64"
        )


def _check_order(
    times: np.ndarray,
    steps: np.ndarray,
    in_unit: np.ndarray,
    unit_of_spike: np.ndarray,
    unit_id: np.ndarray,
    label: str,
) -> None:
    back = np.flatnonzero((steps < 0) & in_unit)
    if not len(back):
        return
    largest_s = float(-steps[back].min())
    if largest_s <= MAX_DISORDER_S and len(back) <= max(1, MAX_DISORDER_SHARE * len(times)):
        log.warning(
            "%d of %d spike times in %s are out of order by at most %.3g ms; they are sorted",
            *(len(back), len(times), label, 1000 * largest_s),
        )
        return
    unit = unit_of_spike[back[0] + 1]
    n_steps = int(in_unit[unit_of_spike[1:] == unit].sum())
    n_back = int((unit_of_spike[back] == unit).sum())
    where = (
        f"the spike times of unit {unit_id[unit]} in {label} go back {n_back} times in {n_steps} steps (first from "
        f"{times[back[0]]:g} to {times[back[0] + 1]:g} s)"
    )
    if n_back > 0.9 * n_steps:
        raise DataError(f"{where}: they descend; write them in ascending order, or correct spike_times_index")
    raise DataError(
        f"{where}; if they count from the start of each trial, add the starts, otherwise sort them or correct "
        "spike_times_index"
    )


def _check_same_units(times: np.ndarray, time_stops: np.ndarray, unit_id: np.ndarray, label: str) -> None:
    pairs = same_units(times, time_stops)
    if pairs:
        first, unit = pairs[0]
        n_spikes = time_stops[unit] - time_stops[unit - 1]
        raise DataError(
            f"units {unit_id[first]} and {unit_id[unit]} in {label} have the same {n_spikes} spike times; "
            "remove one of them, or select units by units.column"
        )


def same_units(times: np.ndarray, time_stops: np.ndarray) -> list[tuple[int, int]]:
    """Returns the rows of each unit with the spike times of an earlier unit: the earlier row, then its own.

    Args:
        times: (spikes,) times of all units, concatenated.
        time_stops: (N,) end of each unit's spikes in `times`.

    Example:
        >>> same_units(np.tile(np.arange(10), 2), np.array([10, 20]))
        [(0, 1)]
    """
    all_spikes = np.split(times, time_stops[:-1])
    first_rows: dict[tuple[int, float, float], list[int]] = {}
    pairs = []
    for row, spikes in enumerate(all_spikes):
        if len(spikes) < _MIN_SPIKES:
            continue
        similar = first_rows.setdefault((len(spikes), spikes[0], spikes[-1]), [])
        first = next((other for other in similar if np.array_equal(all_spikes[other], spikes)), None)
        if first is None:
            similar.append(row)
        else:
            pairs.append((first, row))
    return pairs
