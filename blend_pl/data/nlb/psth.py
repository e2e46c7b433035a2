"""Smoothed mean responses to conditions: peri-stimulus time histograms (PSTH)."""

from collections import defaultdict

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal.windows import gaussian
from scipy.sparse import coo_array

from blend_pl.data.nlb.binning import Intervals, SpikeTrains
from blend_pl.data.nlb.windows import Windows

_Coverage = tuple[tuple[int, int], ...]


def smoothed_psth(
    spike_trains: SpikeTrains, windows: Windows, condition: np.ndarray, n_conditions: int, sd_ms: int
) -> np.ndarray:
    """Returns the mean smoothed response of each condition, equal to the PSTH of nlb_tools (Pei et al., 2021).

    Spikes are smoothed in milliseconds, within their observation interval, with a Gaussian kernel that is six standard
    deviations long and sums to 1; summed to bins; and averaged over the condition's trials, aligned to the bin of the
    event. All of this is linear, so that spikes are summed over trials before smoothing.

    Args:
        spike_trains: N units.
        windows: windows of the trials; only the T observed bins are used.
        condition: (trials,) condition of each trial, -1 for none.
        n_conditions: number of conditions.
        sd_ms: standard deviation of the kernel.

    Returns:
        (n, T, N) float64 expected counts per bin; NaN where the unit was recorded in no trial of the condition.
    """
    shape = windows.shape
    smoothing = _Smoothing(sd_ms, shape.n_observed * shape.bin_ms, shape.bin_ms)
    psth = np.empty((n_conditions, shape.n_observed, spike_trains.n_units))
    for unit_mask, unit_trains in spike_trains.by_coverage():
        for index in range(n_conditions):
            psth[index, :, unit_mask] = _mean_response(unit_trains, windows.select(condition == index), smoothing).T
    return psth


def psth_from_counts(
    counts: np.ndarray, observed: np.ndarray, condition: np.ndarray, n_conditions: int, sd_bins: float
) -> np.ndarray:
    """Returns the mean smoothed response of each condition from binned counts.

    Counts of a condition and its observed trials are summed in each bin, both are smoothed with a Gaussian kernel that
    ends after three standard deviations, and the response is their quotient.

    Args:
        counts: (trials, T, N) counts.
        observed: (trials, T, N) bool, entries that were observed.
        condition: (trials,) condition of each trial, -1 for none.
        n_conditions: number of conditions.
        sd_bins: standard deviation of the kernel in bins.

    Returns:
        (n, T, N) float64 expected counts per bin; NaN in all units of bins in which no trial of the condition was
        observed for some unit.
    """
    psth = np.full((n_conditions, *counts.shape[1:]), np.nan)
    for index in range(n_conditions):
        trials = condition == index
        n_observed = observed[trials].sum(axis=0, dtype=np.float64)
        total = np.where(observed[trials], counts[trials], 0).sum(axis=0, dtype=np.float64)
        smooth_total, smooth_observed = (
            gaussian_filter1d(values, sd_bins, axis=0, mode="constant", truncate=3.0) for values in (total, n_observed)
        )
        is_defined = (n_observed > 0).all(axis=1)
        psth[index, is_defined] = smooth_total[is_defined] / smooth_observed[is_defined]
    return psth


class _Smoothing:
    """Smoothing and binning as one matrix, from the milliseconds around a window to its bins."""

    def __init__(self, sd_ms: int, length_ms: int, bin_ms: int) -> None:
        kernel = gaussian(6 * sd_ms, sd_ms, sym=True)
        kernel /= kernel.sum()
        self.half_width_ms = len(kernel) // 2
        self.length_ms, self.bin_ms = length_ms, bin_ms
        self.n_input_ms = length_ms + len(kernel) - 1
        rows = np.arange(length_ms)[:, None]
        self.matrix = np.zeros((length_ms, self.n_input_ms))
        self.matrix[rows, rows + np.arange(len(kernel))] = kernel
        self.full_projection: np.ndarray = self.matrix.reshape(-1, bin_ms, self.n_input_ms).sum(axis=1)

    def projection(self, start_ms: int, stop_ms: int) -> np.ndarray:
        """Returns the (bins, n_input) matrix from spikes in the milliseconds start..stop of a window to its bins."""
        if (start_ms, stop_ms) == (0, self.length_ms):
            return self.full_projection
        first_full_bin, stop_full_bin = -(-start_ms // self.bin_ms), stop_ms // self.bin_ms
        projection: np.ndarray = np.zeros_like(self.full_projection)
        projection[first_full_bin:stop_full_bin] = self.full_projection[first_full_bin:stop_full_bin]
        if start_ms < first_full_bin * self.bin_ms:
            projection[first_full_bin - 1] = self.matrix[start_ms : min(first_full_bin * self.bin_ms, stop_ms)].sum(
                axis=0
            )
        if first_full_bin <= stop_full_bin < len(projection):
            projection[stop_full_bin] = self.matrix[stop_full_bin * self.bin_ms : stop_ms].sum(axis=0)
        return projection


def _mean_response(spike_trains: SpikeTrains, windows: Windows, smoothing: _Smoothing) -> np.ndarray:
    """Returns the (T, N) mean over the windows of one condition, of units with the same intervals."""
    n_bins = windows.shape.n_observed
    if not len(windows):
        return np.full((n_bins, spike_trains.n_units), np.nan)
    # Starts and events are rounded up separately: rows differ by one if the window's start is not a multiple of a bin.
    event_offset = windows.start - windows.event
    row_offset = event_offset - event_offset.min()
    total = np.zeros((n_bins + int(row_offset.max()), spike_trains.n_units))
    count = np.zeros((len(total), 1))
    for (first_row, coverage), trials in _group_by_coverage(
        spike_trains.obs_intervals[0], windows, row_offset, smoothing.length_ms
    ).items():
        recorded_bins = np.zeros((n_bins, 1), dtype=bool)
        for start, stop in coverage:
            recorded_bins[-(-start // smoothing.bin_ms) : -(-stop // smoothing.bin_ms)] = True
        start_ms = windows.start[trials] * smoothing.bin_ms
        rows = slice(first_row, first_row + n_bins)
        total[rows] += np.where(recorded_bins, _summed_response(spike_trains, start_ms, coverage, smoothing), 0.0)
        count[rows] += len(trials) * recorded_bins
    with np.errstate(invalid="ignore"):
        return (total / count)[:n_bins]


def _group_by_coverage(
    obs_intervals: Intervals, windows: Windows, row_offset: np.ndarray, length_ms: int
) -> dict[tuple[int, _Coverage], list[int]]:
    """Groups trials with equal row offset and equal recorded parts of the window, which can be summed."""
    trials_by_coverage: dict[tuple[int, _Coverage], list[int]] = defaultdict(list)
    for trial, start in enumerate((windows.start * windows.shape.bin_ms).tolist()):
        overlaps = obs_intervals.overlapping(start, start + length_ms)
        coverage = tuple(
            (max(interval_start - start, 0), min(interval_stop - start, length_ms))
            for interval_start, interval_stop in overlaps
        )
        trials_by_coverage[int(row_offset[trial]), coverage].append(trial)
    return trials_by_coverage


def _summed_response(
    spike_trains: SpikeTrains, start_ms: np.ndarray, coverage: _Coverage, smoothing: _Smoothing
) -> np.ndarray:
    """Returns the (T, N) sum over windows with the same recorded parts."""
    window, unit, ms = spike_trains.spikes_in_windows(start_ms - smoothing.half_width_ms, smoothing.n_input_ms)
    obs_intervals = spike_trains.obs_intervals[0]
    # Smoothing does not cross the borders of observation intervals.
    spike_interval = (
        obs_intervals.interval_index(start_ms[window] - smoothing.half_width_ms + ms)
        - obs_intervals.first_ending_after(start_ms)[window]
    )
    response = np.zeros((spike_trains.n_units, smoothing.length_ms // smoothing.bin_ms))
    for index, (start, stop) in enumerate(coverage):
        in_interval = spike_interval == index
        spikes = coo_array(
            (np.ones(in_interval.sum()), (unit[in_interval], ms[in_interval])),
            shape=(spike_trains.n_units, smoothing.n_input_ms),
        )
        response += spikes.tocsr() @ smoothing.projection(start, stop).T
    return response.T
