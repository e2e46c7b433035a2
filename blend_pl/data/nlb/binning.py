"""Binning of spike times in windows by binary search, without a dense array of the whole recording.

Times are integers: milliseconds, or bin indices on the session grid. The grid starts at t = 0 and its edges are the
multiples of the bin width. Rounding follows nlb_tools (Pei et al., 2021), so that counts equal those of nlb_tools.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from blend_pl.data.io.nwb import Units

NS_PER_MS = 1_000_000


def to_ms(seconds: np.ndarray) -> np.ndarray:
    """Returns the millisecond of each time: `seconds * 1000`, rounded to six decimals and truncated."""
    return np.round(seconds * 1000.0, 6).astype(np.int64)


def to_ns(seconds: np.ndarray) -> np.ndarray:
    """Returns integer nanoseconds; fractions are rounded to nine decimals and then truncated, as in pandas."""
    whole_seconds = seconds.astype(np.int64)
    fraction = np.round(seconds - whole_seconds, 9)
    return whole_seconds * 1_000_000_000 + (fraction * 1e9).astype(np.int64)


def ceil_to_bin(ns: np.ndarray, bin_ms: int) -> np.ndarray:
    """Returns the first bin of the session grid that starts at or after each time."""
    return -(-ns // (bin_ms * NS_PER_MS))


@dataclass(frozen=True)
class Intervals:
    """Recorded intervals: sorted, disjoint, half-open ranges of milliseconds, with gaps between them.

    Attributes:
        starts: (S,) int64 ms, inclusive.
        stops: (S,) int64 ms, exclusive.
        unmerged_stops: sorted ends of the intervals in the file, ms, before touching intervals are merged.
    """

    starts: np.ndarray
    stops: np.ndarray
    unmerged_stops: np.ndarray

    @classmethod
    def from_intervals(cls, intervals: np.ndarray | None, n_ms: int) -> "Intervals":
        """Rounds intervals inwards to whole milliseconds and merges touching or overlapping ones.

        Args:
            intervals: (rows, 2) s; None if the whole recording was observed.
            n_ms: length of the recording in ms.
        """
        if intervals is None:
            return cls(np.array([0]), np.array([n_ms]), np.array([n_ms]))
        ms = np.round(intervals * 1000.0, 6)
        starts = np.clip(np.ceil(ms[:, 0]).astype(np.int64), 0, n_ms)
        stops = np.clip(np.floor(ms[:, 1]).astype(np.int64), 0, n_ms)
        order = np.argsort(starts[starts < stops], kind="stable")
        starts, stops = starts[starts < stops][order], stops[starts < stops][order]
        max_stop = np.maximum.accumulate(stops)
        is_merged_start = np.concatenate([np.ones(len(starts[:1]), dtype=bool), starts[1:] > max_stop[:-1]])
        is_merged_end = np.concatenate([is_merged_start[1:], np.ones(len(starts[:1]), dtype=bool)])
        return cls(starts[is_merged_start], max_stop[is_merged_end], np.sort(stops))

    def interval_index(self, ms: np.ndarray) -> np.ndarray:
        """Returns the index of the interval that contains each millisecond, or -1."""
        if not len(self.starts):
            return np.full(np.shape(ms), -1)
        index = np.searchsorted(self.starts, ms, side="right") - 1
        return np.where((index >= 0) & (ms < self.stops[index]), index, -1)

    def first_ending_after(self, ms: np.ndarray | int) -> np.ndarray:
        """Returns the index of the first interval that ends after each millisecond."""
        return np.searchsorted(self.stops, ms, side="right")

    def overlapping(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Returns (start, stop) of the intervals that overlap the half-open range [start, stop) in ms."""
        overlap = slice(int(self.first_ending_after(start)), int(np.searchsorted(self.starts, stop)))
        return list(zip(self.starts[overlap].tolist(), self.stops[overlap].tolist(), strict=True))

    def after_interval_end(self, start_bins: np.ndarray, n_bins: int, bin_ms: int) -> np.ndarray:
        """Returns (n, n_bins) bool: whether an unmerged interval ends between the starts of the window and the bin."""
        ms = (start_bins[:, None] + np.arange(n_bins)) * bin_ms
        n_ended = np.searchsorted(self.unmerged_stops, ms, side="right")
        return n_ended > n_ended[:, :1]

    def contains(self, ms: np.ndarray) -> np.ndarray:
        """Returns whether each millisecond is in a recorded interval."""
        return self.interval_index(ms) >= 0


@dataclass(frozen=True)
class SpikeTrains:
    """Spikes of N units of one recording.

    Attributes:
        unit_id: (N,) int64 ids of the units in the file.
        spike_keys: (spikes,) sorted int64, `unit * n_ms + ms`; only spikes in recorded milliseconds of their unit.
        n_ms: length of the recording in ms.
        obs_intervals: the G different sets of intervals in which units were recorded.
        coverage_index: (N,) int64, the set of each unit in `obs_intervals`.
    """

    unit_id: np.ndarray
    spike_keys: np.ndarray
    n_ms: int
    obs_intervals: tuple[Intervals, ...]
    coverage_index: np.ndarray

    @classmethod
    def from_units(cls, units: Units, unit_mask: np.ndarray, n_ms: int) -> "SpikeTrains":
        """Selects units, ordered by id, each with its own intervals.

        In the sets of NLB'21 all units of a file have the same intervals; nlb_tools uses those of the first one.

        Args:
            units: the units table.
            unit_mask: (rows,) bool, at least one of them True.
            n_ms: length of the recording in ms.
        """
        rows: list[int] = np.flatnonzero(unit_mask).tolist()
        rows.sort(key=units.id.__getitem__)
        coverages: dict[bytes, int] = {}
        obs_intervals: list[Intervals] = []
        coverage_index, spike_keys = [], []
        for position, row in enumerate(rows):
            intervals = units.obs_intervals(row)
            key = b"" if intervals is None else b"intervals" + intervals.tobytes()
            index = coverages.setdefault(key, len(obs_intervals))
            if index == len(obs_intervals):
                obs_intervals.append(Intervals.from_intervals(intervals, n_ms))
            coverage_index.append(index)
            ms = to_ms(units.spike_times(row))
            spike_keys.append(np.sort(ms[obs_intervals[index].contains(ms)]) + position * n_ms)
        return cls(units.id[rows], np.concatenate(spike_keys), n_ms, tuple(obs_intervals), np.array(coverage_index))

    @classmethod
    def empty(cls, unit_id: np.ndarray) -> "SpikeTrains":
        """Returns units without spikes and without recorded intervals."""
        no_ms = np.empty(0, dtype=np.int64)
        no_intervals = Intervals(no_ms, no_ms, no_ms)
        return cls(unit_id, no_ms, 0, (no_intervals,), np.zeros(len(unit_id), dtype=np.int64))

    @property
    def n_units(self) -> int:
        """Number of units, N."""
        return len(self.unit_id)

    def spikes_in_windows(self, starts_ms: np.ndarray, length_ms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Finds the spikes in windows of equal length, which may overlap and extend outside the recording.

        Args:
            starts_ms: (n,) start of each window, ms.
            length_ms: length of all windows, ms.

        Returns:
            Three arrays with one entry per spike: the window, the unit, and the ms since the window's start.
        """
        unit_offsets = np.arange(self.n_units)[:, None] * self.n_ms
        first_spike = np.searchsorted(self.spike_keys, unit_offsets + np.clip(starts_ms, 0, self.n_ms)).ravel()
        stop_spike = np.searchsorted(
            self.spike_keys, unit_offsets + np.clip(starts_ms + length_ms, 0, self.n_ms)
        ).ravel()
        counts = stop_spike - first_spike
        flat_unit_window = np.repeat(np.arange(len(counts)), counts)
        spike = np.arange(counts.sum()) + np.repeat(first_spike - (np.cumsum(counts) - counts), counts)
        unit, window = np.divmod(flat_unit_window, max(len(starts_ms), 1))
        return window, unit, self.spike_keys[spike] - unit * self.n_ms - starts_ms[window]

    def counts(self, start_bins: np.ndarray, n_bins: int, bin_ms: int) -> np.ndarray:
        """Counts the spikes in each bin of each window.

        Args:
            start_bins: (n,) first bin of each window on the session grid.
            n_bins: number of bins per window.
            bin_ms: bin width in ms.

        Returns:
            (n, n_bins, N) counts in the smallest sufficient unsigned type; 0 where the unit was not recorded.
        """
        window, unit, ms = self.spikes_in_windows(start_bins * bin_ms, n_bins * bin_ms)
        flat_index, count = np.unique((window * n_bins + ms // bin_ms) * self.n_units + unit, return_counts=True)
        result = np.zeros((len(start_bins), n_bins, self.n_units), dtype=np.min_scalar_type(count.max(initial=0)))
        result.reshape(-1)[flat_index] = count
        coverage = self.coverage(start_bins, n_bins, bin_ms)
        if len(self.obs_intervals) == 1:
            result[~coverage[..., 0]] = 0
        else:
            result *= coverage[..., self.coverage_index]
        return result

    def coverage(self, start_bins: np.ndarray, n_bins: int, bin_ms: int) -> np.ndarray:
        """Returns (n, n_bins, G) bool: whether the first millisecond of each bin is in each set of intervals."""
        ms = (start_bins[:, None] + np.arange(n_bins)) * bin_ms
        return np.stack([intervals.contains(ms) for intervals in self.obs_intervals], axis=2)

    def observed(self, start_bins: np.ndarray, n_bins: int, bin_ms: int) -> np.ndarray:
        """Returns (n, n_bins) bool: whether the first millisecond of each bin was recorded from all units."""
        return np.asarray(self.coverage(start_bins, n_bins, bin_ms).all(axis=2))

    def by_coverage(self) -> Sequence[tuple[np.ndarray, "SpikeTrains"]]:
        """Returns, for each set of intervals, the (N,) bool mask of its units and their spikes."""
        if len(self.obs_intervals) == 1:
            return [(np.ones(self.n_units, dtype=bool), self)]
        unit, ms = np.divmod(self.spike_keys, max(self.n_ms, 1))
        groups = []
        for index, intervals in enumerate(self.obs_intervals):
            mask = self.coverage_index == index
            spikes = mask[unit]
            keys = (np.cumsum(mask) - 1)[unit[spikes]] * self.n_ms + ms[spikes]
            no_offset = np.zeros(int(mask.sum()), dtype=np.int64)
            groups.append(
                (
                    mask,
                    replace(
                        self,
                        unit_id=self.unit_id[mask],
                        spike_keys=keys,
                        obs_intervals=(intervals,),
                        coverage_index=no_offset,
                    ),
                )
            )
        return groups
