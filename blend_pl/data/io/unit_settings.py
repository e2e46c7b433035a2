"""Settings with which the units of a file can be read, chosen from its contents: rows, ids and the unit of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from blend_pl.data.io.clock import ClockSpec, check_spike_clock
from blend_pl.data.io.nwb_units import Units
from blend_pl.data.io.selection import RowSelection
from blend_pl.data.io.spike_order import same_units
from blend_pl.data.io.unit_selection import UnitSelection
from blend_pl.errors import DataError

QUALITY_COLUMNS = ("quality", "group", "label", "unit_type", "sort", "curation", "good", "accepted")
"""Parts of the names of columns that mark sorted units, those of a curator before those of an algorithm."""
GOOD_VALUES = ("good", "su", "sua", "single unit", "single-unit", "accepted", "accept")
"""Values of such columns for units of one neuron, in lower case."""
MIN_SELECTED = 2
MAX_VALUES = 12
_MS_RATIO_RANGE = (500.0, 2000.0)
_SAMPLE_RATIO_RANGE = (0.5, 1.5)


@dataclass(frozen=True)
class UnitSettings:
    """Settings of the units.

    Attributes:
        selection: the units to use.
        clock: unit of the spike times.
        reasons: reason by setting, "units" or "clock"; without an entry, the setting is the default.
    """

    selection: UnitSelection = field(default_factory=UnitSelection)
    clock: ClockSpec = field(default_factory=ClockSpec)
    reasons: dict[str, str] = field(default_factory=dict)


def choose_unit_settings(
    units: Units, resolution_s: float | None, spans: Mapping[str, tuple[float, float]], rates_hz: Sequence[float]
) -> UnitSettings:
    """Chooses the units of single neurons, unique ids, and the unit of time that agrees with the rest of the file.

    What the file does not say clearly keeps its default, with which reading raises an error.

    Args:
        units: all units as stored, see `read_unchecked_units`.
        resolution_s: resolution of the spike times; None if unknown.
        spans: first and last time in s of what else is in the file, by its name.
        rates_hz: sampling rates of the recorded signals.
    """
    rows, unit_reasons = _choose_rows(units)
    selected = units if rows is None else units.select(rows.mask(units.columns[rows.column], "units", "units"))
    n_repeated = len(selected) - len(np.unique(selected.id))
    if n_repeated:
        unit_reasons.append(f"{n_repeated} ids of units occur before, so that units are numbered by row")
    column, values = (None, []) if rows is None else (rows.column, rows.values)
    clock, clock_reasons = _choose_clock(selected, resolution_s, spans, rates_hz)
    reasons = {"units": unit_reasons, "clock": clock_reasons}
    return UnitSettings(
        UnitSelection(column=column, values=values, renumber=n_repeated > 0),
        clock,
        {name: "; ".join(lines) for name, lines in reasons.items() if lines},
    )


def good_rows(columns: Mapping[str, np.ndarray]) -> RowSelection | None:
    """Returns the selection of good units by a column of their quality; None without such a column.

    A column in which all units are good, or fewer than two, selects nothing.

    Args:
        columns: (N,) columns of the units table, booleans, numbers or text.

    Example:
        >>> good_rows({"KSLabel": np.array(["good", "mua", "good"])})
        RowSelection(column='KSLabel', values=['good'])
    """
    candidates = [(rank, name) for name in columns if (rank := _quality_rank(name, columns[name])) is not None]
    for _, name in sorted(candidates):
        values = _good_values(columns[name])
        n_good = int(np.isin(columns[name], values).sum())
        if MIN_SELECTED <= n_good < len(columns[name]):
            return RowSelection(name, values)
    return None


def _quality_rank(name: str, column: np.ndarray) -> int | None:
    """Returns the rank of a column of qualities, low ones first; None for other columns."""
    parts = [rank for rank, part in enumerate(QUALITY_COLUMNS) if part in name.lower()]
    if column.ndim != 1 or not len(column):
        return None
    if column.dtype.kind == "U":
        values = np.unique(column)
        is_quality = len(values) <= MAX_VALUES and (bool(parts) or "good" in np.char.lower(values))
        return min(parts, default=len(QUALITY_COLUMNS)) if is_quality else None
    is_flag = column.dtype.kind in "biu" and set(np.unique(column).tolist()) <= {0, 1}
    is_named = any(name.lower() in (word, f"is_{word}", f"{word}_unit") for word in ("good", "accepted"))
    return len(QUALITY_COLUMNS) if is_flag and is_named else None


def _good_values(column: np.ndarray) -> list[bool | int | float | str]:
    if column.dtype.kind == "U":
        return [value for value in np.unique(column).tolist() if value.strip().lower() in GOOD_VALUES]
    return [True] if column.dtype.kind == "b" else [1]


def _choose_rows(units: Units) -> tuple[RowSelection | None, list[str]]:
    rows = good_rows(units.columns)
    if rows is not None:
        column = units.columns[rows.column]
        others, counts = np.unique(column[~np.isin(column, rows.values)], return_counts=True)
        listed = ", ".join(f"{value} ({count})" for value, count in zip(others, counts, strict=True))
        good = " or ".join(map(str, rows.values))
        return rows, [f"{counts.sum()} of {len(column)} units are left out: {rows.column} is not {good} but {listed}"]
    pairs = same_units(units.times, units.time_stops)
    names = [
        name
        for name, column in units.columns.items()
        if column.ndim == 1 and column.dtype.kind in "iuU" and len(np.unique(column)) == len(units)
    ]
    if not pairs or not names:
        return None, []
    column = units.columns[names[0]]
    left_out = sorted({row for _, row in pairs})
    rows = RowSelection(names[0], np.delete(column, left_out).tolist())
    listed = ", ".join(f"{column[row]} (as {column[first]})" for first, row in pairs)
    return rows, [f"units with the spike times of another unit are left out: {names[0]} {listed}"]


def _choose_clock(
    units: Units, resolution_s: float | None, spans: Mapping[str, tuple[float, float]], rates_hz: Sequence[float]
) -> tuple[ClockSpec, list[str]]:
    times = units.times
    reference = longest_span(spans)
    is_whole = bool(len(times)) and bool((times == np.round(times)).all())
    if not len(times) or (reference is None and not is_whole):
        return ClockSpec(), []
    extent = float(np.ptp(times))
    if reference is not None:
        name, (start, stop) = reference
        ratio = extent / max(stop - start, 1e-3)
        spike_span = f"spikes last {ratio:.4g} times as long as {name}"
        if _MS_RATIO_RANGE[0] < ratio < _MS_RATIO_RANGE[1] and _fits(units, 1000.0, spans):
            return ClockSpec(spikes="ms"), [f"{spike_span}: spike times are milliseconds"]
    if not is_whole:
        return ClockSpec(), []
    resolved_hz = [1 / resolution_s] if resolution_s is not None and resolution_s < 1e-3 else []
    for rate_hz in [*resolved_hz, *(rate for rate in rates_hz if reference is not None)]:
        is_in_range = reference is None or _SAMPLE_RATIO_RANGE[0] < ratio / rate_hz < _SAMPLE_RATIO_RANGE[1]
        if is_in_range and _fits(units, rate_hz, spans):
            source = "the resolution of spike times" if rate_hz in resolved_hz else "the rate of an ElectricalSeries"
            rounded_hz = float(f"{rate_hz:.9g}")
            reason = f"spike times are whole numbers, samples at {rounded_hz:g} Hz according to {source}"
            return ClockSpec(spikes="samples", rate_hz=rounded_hz), [reason]
    return ClockSpec(), []


def longest_span(spans: Mapping[str, tuple[float, float]]) -> tuple[str, tuple[float, float]] | None:
    """Returns the name and the span of what lasts longest; None for no spans."""
    name = max(spans, key=lambda name: spans[name][1] - spans[name][0], default=None)
    return None if name is None else (name, spans[name])


def _fits(units: Units, ticks_per_second: float, spans: Mapping[str, tuple[float, float]]) -> bool:
    """Whether spike times in this unit agree with the longest of the other spans and have the rates of neurons."""
    reference = longest_span(spans)
    other_times = {} if reference is None else {reference[0]: np.array(reference[1])}
    try:
        check_spike_clock(units.times / ticks_per_second, len(units), other_times, "the file")
    except DataError:
        return False
    return True
