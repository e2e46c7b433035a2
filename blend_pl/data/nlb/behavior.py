"""Resampling of a behavioral time series to the bins of a session.

A series sampled at 1 kHz on whole milliseconds, as in every set of the Neural Latents Benchmark '21 (Pei et al., 2021),
is processed exactly as in nlb_tools. A series of any other rate is resampled to the millisecond grid first.
"""

import numpy as np
from scipy.signal import decimate

from blend_pl.data.io.nwb import TimeSeries
from blend_pl.data.nlb.spec import BehaviorSpec
from blend_pl.data.nlb.windows import Windows
from blend_pl.errors import ConfigError, DataError

_FILTER_ORDER = 500
_GRID_TOLERANCE_MS = 1e-3
_MAX_GAP_SAMPLES = 3.5


def bin_behavior(series: TimeSeries, behavior: BehaviorSpec, n_ms: int, bin_ms: int) -> np.ndarray:
    """Resamples the whole recording to one sample per bin.

    Gaps are interpolated linearly, the series is low-passed by an FIR filter of order 500 and decimated, and bins are
    set to NaN where the series has no value in the bin's first millisecond. Other rates are resampled to the
    millisecond grid by linear interpolation (not across gaps longer than three samples) or, above 1 kHz, by averaging
    the samples around each millisecond; the low-pass prevents aliasing of frequencies above the bins' Nyquist
    frequency. As in nlb_tools the recording is padded with zeros, which affects its first and last 250 ms.

    Args:
        series: the series of the file.
        behavior: selects the columns.
        n_ms: length of the recording.
        bin_ms: bin width.

    Returns:
        (bins, D) floating point, in the file's unit; column order as in `behavior.columns`.

    Raises:
        ConfigError: a selected column does not exist.
        DataError: a column has no value during the recording.
    """
    samples = _resample_to_ms(series.timestamps, _select_columns(series, behavior), n_ms)
    missing = np.isnan(samples)
    empty_columns = np.flatnonzero(missing.all(axis=0))
    if len(empty_columns):
        columns = behavior.columns or list(range(samples.shape[1]))
        raise DataError(
            f"{series.name} has no value in column {columns[empty_columns[0]]} during the recording of "
            f"{n_ms / 1000:g} s; set behavior.columns to columns that were recorded, or behavior.series to another "
            "series"
        )
    if bin_ms == 1:
        return samples
    missing_bins = missing[::bin_ms].copy()
    for column in range(samples.shape[1]):
        missing_samples = np.flatnonzero(missing[:, column])
        valid = np.flatnonzero(~missing[:, column])
        samples[missing_samples, column] = np.interp(missing_samples, valid, samples[valid, column])
    binned: np.ndarray = decimate(samples, bin_ms, n=_FILTER_ORDER, ftype="fir", axis=0)
    binned[missing_bins] = np.nan
    return binned


def slice_behavior(binned: np.ndarray, windows: Windows) -> np.ndarray:
    """Gathers lagged windows, including forward bins.

    Args:
        binned: (bins, D) of the whole recording.
        windows: n windows of T + F bins.

    Returns:
        (n, T + F, D) float32; NaN outside the recording.
    """
    index = windows.behavior_start[:, None] + np.arange(windows.shape.n_bins)
    inside = (index >= 0) & (index < len(binned))
    sliced = binned.astype(np.float32)[np.where(inside, index, 0)]
    sliced[~inside] = np.nan
    return sliced


def _select_columns(series: TimeSeries, behavior: BehaviorSpec) -> np.ndarray:
    if behavior.columns is None:
        return series.data
    n_columns = series.data.shape[1]
    if not behavior.columns or any(not 0 <= column < n_columns for column in behavior.columns):
        names = f" ({', '.join(series.columns)})" if series.columns else ""
        raise ConfigError(
            f"behavior.columns is {behavior.columns}; {series.name} has the columns 0..{n_columns - 1}{names}"
        )
    return series.data[:, behavior.columns]


def _resample_to_ms(times: np.ndarray, data: np.ndarray, n_ms: int) -> np.ndarray:
    """Returns (n_ms, D) samples, NaN where the series has no finite value."""
    resampled = np.full((n_ms, data.shape[1]), np.nan, dtype=data.dtype)
    sample_interval_ms = float(np.median(np.diff(times))) * 1000.0
    ms = np.rint(times * 1000.0).astype(np.int64)
    if abs(sample_interval_ms - 1.0) < _GRID_TOLERANCE_MS and np.abs(times * 1000.0 - ms).max() < _GRID_TOLERANCE_MS:
        inside = (ms >= 0) & (ms < n_ms)
        resampled[ms[inside]] = data[inside]
    else:
        for column, values in enumerate(data.T):
            finite = np.isfinite(values)
            sample_ms, values = times[finite] * 1000.0, values[finite]
            if sample_interval_ms < 1.0:
                sample_ms, values = _average_per_ms(ms[finite], values)
            if len(sample_ms):
                resampled[:, column] = _interpolate_to_ms(
                    sample_ms, values, n_ms, _MAX_GAP_SAMPLES * max(sample_interval_ms, 1.0)
                )
    resampled[~np.isfinite(resampled)] = np.nan
    return resampled


def _average_per_ms(ms: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unique_ms, first, count = np.unique(ms, return_index=True, return_counts=True)
    return unique_ms.astype(np.float64), np.add.reduceat(values, first) / count if len(unique_ms) else values


def _interpolate_to_ms(sample_ms: np.ndarray, samples: np.ndarray, n_ms: int, max_gap_ms: float) -> np.ndarray:
    grid = np.arange(n_ms, dtype=np.float64)
    values: np.ndarray = np.interp(grid, sample_ms, samples, left=np.nan, right=np.nan)
    next_sample = np.minimum(np.searchsorted(sample_ms, grid, side="left"), len(sample_ms) - 1)
    previous_sample = np.maximum(np.searchsorted(sample_ms, grid, side="right") - 1, 0)
    values[sample_ms[next_sample] - sample_ms[previous_sample] > max_gap_ms] = np.nan
    return values
