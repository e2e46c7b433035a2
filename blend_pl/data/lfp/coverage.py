"""The time of a recording in which its units were observed."""

from collections.abc import Sequence

import numpy as np

from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.errors import DataError

MIN_SILENCE_S = 5.0
"""Shortest time without a spike of any unit, at an end of a recording, that is left out."""
MIN_EXPECTED_SPIKES = 100.0
"""Smallest number of spikes that such a time would have at the mean rate."""


def observed_bins(
    times: Sequence[np.ndarray],
    intervals: Sequence[np.ndarray | None],
    invalid_times: np.ndarray,
    start: float,
    n_bins: int,
    where: str,
) -> tuple[float, int, tuple[str, ...]]:
    """Returns the part of a recording in which all units were observed, because its bins have no mask of units.

    Args:
        times: spike times of each unit, s.
        intervals: (rows, 2) observation intervals of each unit, s, which may overlap; None if the file has none.
        invalid_times: (rows, 2) s.
        start: start of the first bin with field potentials and behavior, s.
        n_bins: number of these bins.
        where: the file, for messages.

    Returns:
        Start and number of the bins, and a note if some are left out.

    Raises:
        DataError: invalid times, or a gap in the intervals of a unit, are inside of the recording, or units were not
            observed in it.
    """
    bin_s = BIN_MS / 1000
    first, last = start, start + n_bins * bin_s
    stated = [rows[rows[:, 0] < rows[:, 1]] for rows in intervals if rows is not None and len(rows)]
    if stated:
        first = max(first, *(float(rows[:, 0].min()) for rows in stated))
        last = min(last, *(float(rows[:, 1].max()) for rows in stated))
    elif sum(map(len, times)) >= MIN_EXPECTED_SPIKES:
        first, last = _without_silent_ends(np.concatenate(list(times)), first, last)
    skipped = int(np.ceil(np.round((first - start) / bin_s, 6)))
    n_observed = int(np.floor(np.round((last - start) / bin_s, 6))) - skipped
    if n_observed < 1:
        raise DataError(
            f"{where} has no time in which all units, field potentials and behavior were recorded; select "
            "units that were observed in that time with data.spec.units, or leave this session out"
        )
    for rows in stated:
        _require_no_gap(rows, first, last, where)
    inside = invalid_times[(invalid_times[:, 1] > first) & (invalid_times[:, 0] < last)]
    if len(inside):
        raise DataError(
            f"{where} has invalid_times from {inside[0, 0]:g} to {inside[0, 1]:g} s inside of the recording; split the "
            "file there, so that no segment extends across them"
        )
    if n_observed == n_bins:
        return start, n_bins, ()
    share = 100 * (n_bins - n_observed) / n_bins
    note = f"{where}: {share:.3g} % of the recording is left out, in which units were not observed"
    return start + skipped * bin_s, n_observed, (note,)


def _without_silent_ends(times: np.ndarray, first: float, last: float) -> tuple[float, float]:
    """Returns the extent of all spikes at the ends where they start late or stop early."""
    begin, end = float(times.min()), float(times.max())
    shortest = max(MIN_SILENCE_S, MIN_EXPECTED_SPIKES * (end - begin) / len(times))
    return begin if begin - first > shortest else first, end if last - end > shortest else last


def _require_no_gap(rows: np.ndarray, first: float, last: float, where: str) -> None:
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    reached = np.maximum.accumulate(rows[:-1, 1])
    gaps = np.flatnonzero((rows[1:, 0] - reached > BIN_MS / 1000) & (reached < last) & (rows[1:, 0] > first))
    if len(gaps):
        raise DataError(
            f"{where} has a unit that was not observed from {reached[gaps[0]]:g} to {rows[gaps[0] + 1, 0]:g} s; leave "
            "such units out with data.spec.units, or split the file there"
        )
