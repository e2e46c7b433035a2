"""The privileged time series on the bins of a session: gaps filled, low-passed, decimated, cut, and gaps restored.

A series sampled at 1 kHz on whole milliseconds, as in every set of the Neural Latents Benchmark '21 (Pei et al., 2021),
is treated exactly as nlb_tools does. A series of any other rate is brought onto the millisecond grid first.
"""

import numpy as np
from scipy.signal import decimate

from blend_pl.data.io.nwb import Series
from blend_pl.data.nlb.spec import Behavior
from blend_pl.data.nlb.windows import Windows
from blend_pl.errors import ConfigError, DataError

_FILTER_ORDER = 500
_GRID_TOLERANCE_MS = 1e-3
_LONGEST_BRIDGE = 3.5


def binned_behavior(series: Series, behavior: Behavior, n_ms: int, bin_ms: int) -> np.ndarray:
    """Samples of the whole recording, one a bin.

    Gaps are bridged linearly, the continuous series is low-passed by an FIR filter of order 500 and decimated, and a
    bin is NaN again where the series has no value in the bin's first millisecond. Other rates come onto the
    millisecond grid by linear interpolation (not across gaps longer than three samples) or, above 1 kHz, by averaging
    the samples around each millisecond; the low-pass keeps frequencies above the bins' Nyquist from folding back.
    As in nlb_tools the filter meets zeros beyond the recording, which its first and last 250 ms feel.

    Args:
        series: the series as it is in the file.
        behavior: says which columns are used.
        n_ms: length of the recording.
        bin_ms: bin width.

    Returns:
        (bins, D) floating point, in the file's unit; column order as in `behavior.columns`.

    Raises:
        ConfigError: a column that the series does not have.
        DataError: a column without any value in the recording.
    """
    table = _millisecond_table(series.times, _chosen(series, behavior), n_ms)
    missing = np.isnan(table)
    empty = np.flatnonzero(missing.all(axis=0))
    if len(empty):
        columns = behavior.columns or list(range(table.shape[1]))
        raise DataError(
            f"{series.name} has no value in column {columns[empty[0]]} during the recording of {n_ms / 1000:g} s; set "
            "behavior.columns to columns that were recorded, or behavior.series to another series"
        )
    if bin_ms == 1:
        return table
    lost = missing[::bin_ms].copy()
    for column in range(table.shape[1]):
        gaps = np.flatnonzero(missing[:, column])
        known = np.flatnonzero(~missing[:, column])
        table[gaps, column] = np.interp(gaps, known, table[known, column])
    bins = decimate(table, bin_ms, n=_FILTER_ORDER, ftype="fir", axis=0)
    bins[lost] = np.nan
    return bins


def cut_behavior(bins: np.ndarray, windows: Windows) -> np.ndarray:
    """Cuts lagged windows, forward bins included.

    Args:
        bins: (bins, D) of the whole recording.
        windows: n windows of T + F bins.

    Returns:
        (n, T + F, D) float32; NaN beyond the recording.
    """
    index = windows.lagged[:, None] + np.arange(windows.shape.n_bins)
    inside = (index >= 0) & (index < len(bins))
    cut = bins.astype(np.float32)[np.where(inside, index, 0)]
    cut[~inside] = np.nan
    return cut


def _chosen(series: Series, behavior: Behavior) -> np.ndarray:
    if behavior.columns is None:
        return series.data
    n = series.data.shape[1]
    if not behavior.columns or any(not 0 <= column < n for column in behavior.columns):
        names = f" ({', '.join(series.columns)})" if series.columns else ""
        raise ConfigError(f"behavior.columns is {behavior.columns}; {series.name} has the columns 0..{n - 1}{names}")
    return series.data[:, behavior.columns]


def _millisecond_table(times: np.ndarray, data: np.ndarray, n_ms: int) -> np.ndarray:
    """(n_ms, D), NaN where the series has no finite value."""
    table = np.full((n_ms, data.shape[1]), np.nan, dtype=data.dtype)
    step = float(np.median(np.diff(times))) * 1000.0
    ms = np.rint(times * 1000.0).astype(np.int64)
    if abs(step - 1.0) < _GRID_TOLERANCE_MS and np.abs(times * 1000.0 - ms).max() < _GRID_TOLERANCE_MS:
        inside = (ms >= 0) & (ms < n_ms)
        table[ms[inside]] = data[inside]
    else:
        for column, values in enumerate(data.T):
            known = np.isfinite(values)
            at, values = times[known] * 1000.0, values[known]
            if step < 1.0:
                at, values = _averaged(ms[known], values)
            if len(at):
                table[:, column] = _interpolated(at, values, n_ms, _LONGEST_BRIDGE * max(step, 1.0))
    table[~np.isfinite(table)] = np.nan
    return table


def _averaged(ms: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at, first, count = np.unique(ms, return_index=True, return_counts=True)
    return at.astype(np.float64), np.add.reduceat(values, first) / count if len(at) else values


def _interpolated(x: np.ndarray, y: np.ndarray, n_ms: int, longest_ms: float) -> np.ndarray:
    grid = np.arange(n_ms, dtype=np.float64)
    values = np.interp(grid, x, y, left=np.nan, right=np.nan)
    after = np.minimum(np.searchsorted(x, grid, side="left"), len(x) - 1)
    before = np.maximum(np.searchsorted(x, grid, side="right") - 1, 0)
    values[x[after] - x[before] > longest_ms] = np.nan
    return values
