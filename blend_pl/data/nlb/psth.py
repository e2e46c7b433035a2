"""Empirical responses to conditions (peri-stimulus time histograms), smoothed as the benchmark smooths them."""

from collections import defaultdict

import numpy as np
from scipy.signal.windows import gaussian
from scipy.sparse import coo_array

from blend_pl.data.nlb.binning import Population, Stretches
from blend_pl.data.nlb.windows import Windows

_Covered = tuple[tuple[int, int], ...]


def smoothed_psth(population: Population, windows: Windows, condition: np.ndarray, n: int, sd_ms: int) -> np.ndarray:
    """Mean smoothed response per condition, equal to nlb_tools' PSTH (Pei et al., 2021).

    Spikes are smoothed in milliseconds, within the stretch in which they were recorded, with a Gaussian kernel that is
    six standard deviations long and sums to 1; summed to bins; and averaged over the condition's trials, aligned by the
    bin of their event. Since all this is linear, spikes are summed over trials before they are smoothed.

    Args:
        population: N units.
        windows: windows of the trials to average; the T observed bins are used.
        condition: (trials,) condition of each, -1 for none.
        n: number of conditions.
        sd_ms: standard deviation of the kernel.

    Returns:
        (n, T, N) float64 expected counts per bin; NaN where no trial of the condition was recorded.
    """
    shape = windows.shape
    smooth = _Smoothing(sd_ms, shape.n_observed * shape.bin_ms, shape.bin_ms)
    means = [_mean_response(population, windows.select(condition == index), smooth) for index in range(n)]
    return np.array(means).reshape(n, shape.n_observed, population.n_units)


class _Smoothing:
    """Smoothing and binning of one window as a matrix, from milliseconds around the window to its bins."""

    def __init__(self, sd_ms: int, length: int, bin_ms: int) -> None:
        kernel = gaussian(6 * sd_ms, sd_ms, sym=True)
        kernel /= kernel.sum()
        self.before = len(kernel) // 2
        self.length, self.bin_ms = length, bin_ms
        self.n_input = length + len(kernel) - 1
        rows = np.arange(length)[:, None]
        self.matrix = np.zeros((length, self.n_input))
        self.matrix[rows, rows + np.arange(len(kernel))] = kernel
        self.whole = self.matrix.reshape(-1, bin_ms, self.n_input).sum(axis=1)

    def project(self, first: int, last: int) -> np.ndarray:
        """(bins, n_input) map from the spikes of a stretch, which covers the milliseconds first..last, to bins."""
        if (first, last) == (0, self.length):
            return self.whole
        inner, outer = -(-first // self.bin_ms), last // self.bin_ms
        bins = np.zeros_like(self.whole)
        bins[inner:outer] = self.whole[inner:outer]
        if first < inner * self.bin_ms:
            bins[inner - 1] = self.matrix[first : min(inner * self.bin_ms, last)].sum(axis=0)
        if inner <= outer < len(bins):
            bins[outer] = self.matrix[outer * self.bin_ms : last].sum(axis=0)
        return bins


def _mean_response(population: Population, windows: Windows, smooth: _Smoothing) -> np.ndarray:
    """(T, N) mean over the windows of one condition."""
    n_bins = windows.shape.n_observed
    if not len(windows):
        return np.full((n_bins, population.n_units), np.nan)
    # Starts are rounded up apart from events: where the window's start is no multiple of the bin, rows differ by one.
    from_event = windows.start - windows.event
    row = from_event - from_event.min()
    total = np.zeros((n_bins + int(row.max()), population.n_units))
    count = np.zeros((len(total), 1))
    for (first, covered), trials in _layouts(population.recorded, windows, row, smooth.length).items():
        seen = np.zeros((n_bins, 1), dtype=bool)
        for start, stop in covered:
            seen[-(-start // smooth.bin_ms) : -(-stop // smooth.bin_ms)] = True
        start_ms = windows.start[trials] * smooth.bin_ms
        rows = slice(first, first + n_bins)
        total[rows] += np.where(seen, _summed_response(population, start_ms, covered, smooth), 0.0)
        count[rows] += len(trials) * seen
    with np.errstate(invalid="ignore"):
        return (total / count)[:n_bins]


def _layouts(
    recorded: Stretches, windows: Windows, row: np.ndarray, length: int
) -> dict[tuple[int, _Covered], list[int]]:
    """Trials by their row and by the parts of the window that were recorded, for trials that agree can be summed."""
    layouts: dict[tuple[int, _Covered], list[int]] = defaultdict(list)
    for trial, start in enumerate((windows.start * windows.shape.bin_ms).tolist()):
        parts = recorded.between(start, start + length)
        covered = tuple((max(a - start, 0), min(b - start, length)) for a, b in parts)
        layouts[int(row[trial]), covered].append(trial)
    return layouts


def _summed_response(population: Population, start_ms: np.ndarray, covered: _Covered, smooth: _Smoothing) -> np.ndarray:
    """(T, N) sum over windows that were recorded in the same parts."""
    window, unit, ms = population.within(start_ms - smooth.before, smooth.n_input)
    recorded = population.recorded
    # Spikes act within their own stretch only.
    part = recorded.index(start_ms[window] - smooth.before + ms) - recorded.first_after(start_ms)[window]
    response = np.zeros((population.n_units, smooth.length // smooth.bin_ms))
    for index, (start, stop) in enumerate(covered):
        own = part == index
        spikes = coo_array((np.ones(own.sum()), (unit[own], ms[own])), shape=(population.n_units, smooth.n_input))
        response += spikes.tocsr() @ smooth.project(start, stop).T
    return response.T
