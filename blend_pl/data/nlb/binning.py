"""Exact binning of spike times: sort, searchsorted, count; no table of the whole recording.

Time is counted in whole milliseconds and in bins of the session grid, whose edges are the multiples of the bin width
from t = 0. All rounding is that of nlb_tools (Pei et al., 2021), so that counts equal its counts entry by entry.
"""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.io.nwb import Units

NS_PER_MS = 1_000_000


def to_ms(seconds: np.ndarray) -> np.ndarray:
    """Millisecond in which each time lies: `seconds * 1000`, rounded at the sixth decimal and truncated."""
    return np.round(seconds * 1000.0, 6).astype(np.int64)


def to_ns(seconds: np.ndarray) -> np.ndarray:
    """Whole nanoseconds; the fraction is rounded at the ninth decimal and then truncated, as pandas converts times."""
    whole_seconds = seconds.astype(np.int64)
    fraction = np.round(seconds - whole_seconds, 9)
    return whole_seconds * 1_000_000_000 + (fraction * 1e9).astype(np.int64)


def ceil_to_bin(ns: np.ndarray, bin_ms: int) -> np.ndarray:
    """First bin of the session grid that starts at or after each time."""
    return -(-ns // (bin_ms * NS_PER_MS))


@dataclass(frozen=True)
class Intervals:
    """When units were recorded: sorted, disjoint, never touching half-open stretches of milliseconds.

    Attributes:
        starts: (S,) int64 ms, inclusive.
        stops: (S,) int64 ms, exclusive.
        unmerged_stops: sorted ms at which the intervals of the file end, also those that touch the next one.
    """

    starts: np.ndarray
    stops: np.ndarray
    unmerged_stops: np.ndarray

    @classmethod
    def from_intervals(cls, intervals: np.ndarray | None, n_ms: int) -> "Intervals":
        """Rounds intervals inwards to whole milliseconds and merges those that touch.

        Args:
            intervals: (rows, 2) s; None means that everything was recorded.
            n_ms: length of the recording.
        """
        if intervals is None:
            return cls(np.array([0]), np.array([n_ms]), np.array([n_ms]))
        ms = np.round(intervals * 1000.0, 6)
        starts = np.clip(np.ceil(ms[:, 0]).astype(np.int64), 0, n_ms)
        stops = np.clip(np.floor(ms[:, 1]).astype(np.int64), 0, n_ms)
        order = np.argsort(starts[starts < stops], kind="stable")
        starts, stops = starts[starts < stops][order], stops[starts < stops][order]
        max_stop = np.maximum.accumulate(stops)
        starts_new = np.concatenate([np.ones(len(starts[:1]), dtype=bool), starts[1:] > max_stop[:-1]])
        ends_merged = np.concatenate([starts_new[1:], np.ones(len(starts[:1]), dtype=bool)])
        return cls(starts[starts_new], max_stop[ends_merged], np.sort(stops))

    def index(self, ms: np.ndarray) -> np.ndarray:
        """Index of the stretch that each millisecond lies in, -1 where it lies in none."""
        if not len(self.starts):
            return np.full(np.shape(ms), -1)
        index = np.searchsorted(self.starts, ms, side="right") - 1
        return np.where((index >= 0) & (ms < self.stops[index]), index, -1)

    def first_ending_after(self, ms: np.ndarray | int) -> np.ndarray:
        """Index of the first stretch that ends after each millisecond."""
        return np.searchsorted(self.stops, ms, side="right")

    def overlapping(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Starts and stops of the stretches that reach into the milliseconds start..stop."""
        overlap = slice(int(self.first_ending_after(start)), int(np.searchsorted(self.starts, stop)))
        return list(zip(self.starts[overlap].tolist(), self.stops[overlap].tolist(), strict=True))

    def after_interval_end(self, start_bins: np.ndarray, n_bins: int, bin_ms: int) -> np.ndarray:
        """(n, n_bins) bool: bins of windows that start after an interval of the file has ended within the window."""
        ms = (start_bins[:, None] + np.arange(n_bins)) * bin_ms
        n_ended = np.searchsorted(self.unmerged_stops, ms, side="right")
        return n_ended > n_ended[:, :1]

    def contains(self, ms: np.ndarray) -> np.ndarray:
        """Whether each millisecond was recorded."""
        return self.index(ms) >= 0


@dataclass(frozen=True)
class SpikeTrains:
    """The spikes of N units that were recorded together.

    Attributes:
        unit_id: (N,) int64 ids of the units in the file.
        spike_keys: (spikes,) sorted int64, `unit * n_ms + ms`; only spikes of recorded milliseconds.
        n_ms: length of the recording.
        obs_intervals: when the units were recorded.
    """

    unit_id: np.ndarray
    spike_keys: np.ndarray
    n_ms: int
    obs_intervals: Intervals

    @classmethod
    def from_units(cls, units: Units, unit_mask: np.ndarray, n_ms: int) -> "SpikeTrains":
        """Takes units in the order of their ids; the first in the file says when all were recorded, as in nlb_tools.

        Args:
            units: the units table.
            unit_mask: (rows,) bool, at least one of them True.
            n_ms: length of the recording.
        """
        rows: list[int] = np.flatnonzero(unit_mask).tolist()
        obs_intervals = Intervals.from_intervals(units.obs_intervals(rows[0]), n_ms)
        rows.sort(key=units.id.__getitem__)
        spike_keys = []
        for position, row in enumerate(rows):
            ms = to_ms(units.spike_times(row))
            spike_keys.append(np.sort(ms[obs_intervals.contains(ms)]) + position * n_ms)
        return cls(units.id[rows], np.concatenate(spike_keys), n_ms, obs_intervals)

    @classmethod
    def unrecorded(cls, unit_id: np.ndarray) -> "SpikeTrains":
        """Units that exist but were not recorded."""
        empty = np.empty(0, dtype=np.int64)
        return cls(unit_id, empty, 0, Intervals(empty, empty, empty))

    @property
    def n_units(self) -> int:
        """N."""
        return len(self.unit_id)

    def spikes_in_windows(self, starts_ms: np.ndarray, length_ms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Finds the spikes of stretches of equal length, which may overlap and reach beyond the recording.

        Args:
            starts_ms: (n,) ms.
            length_ms: ms.

        Returns:
            Three arrays with one entry a spike: the stretch, the unit, and the ms from the stretch's start.
        """
        unit_keys = np.arange(self.n_units)[:, None] * self.n_ms
        first_spike = np.searchsorted(self.spike_keys, unit_keys + np.clip(starts_ms, 0, self.n_ms)).ravel()
        stop_spike = np.searchsorted(self.spike_keys, unit_keys + np.clip(starts_ms + length_ms, 0, self.n_ms)).ravel()
        counts = stop_spike - first_spike
        unit_window = np.repeat(np.arange(len(counts)), counts)
        spike = np.arange(counts.sum()) + np.repeat(first_spike - (np.cumsum(counts) - counts), counts)
        unit, window = np.divmod(unit_window, max(len(starts_ms), 1))
        return window, unit, self.spike_keys[spike] - unit * self.n_ms - starts_ms[window]

    def counts(self, start_bins: np.ndarray, n_bins: int, bin_ms: int) -> np.ndarray:
        """Spike counts of windows.

        Args:
            start_bins: (n,) first bin of each window on the session grid.
            n_bins: bins a window.
            bin_ms: bin width.

        Returns:
            (n, n_bins, N) of the smallest unsigned type that holds them; 0 in bins that do not count as recorded.
        """
        window, unit, ms = self.spikes_in_windows(start_bins * bin_ms, n_bins * bin_ms)
        flat_index, count = np.unique((window * n_bins + ms // bin_ms) * self.n_units + unit, return_counts=True)
        result = np.zeros((len(start_bins), n_bins, self.n_units), dtype=np.min_scalar_type(count.max(initial=0)))
        result.reshape(-1)[flat_index] = count
        result[~self.observed(start_bins, n_bins, bin_ms)] = 0
        return result

    def observed(self, start_bins: np.ndarray, n_bins: int, bin_ms: int) -> np.ndarray:
        """(n, n_bins) bool: whether the first millisecond of each bin was recorded, which decides for the whole bin."""
        return self.obs_intervals.contains((start_bins[:, None] + np.arange(n_bins)) * bin_ms)
