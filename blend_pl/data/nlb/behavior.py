"""Resampling of a behavioral time series to the bins of a session.

A series sampled at 1 kHz on whole milliseconds, as in every set of the Neural Latents Benchmark '21 (Pei et al., 2021),
is processed exactly as in nlb_tools. A series of any other rate is resampled to the millisecond grid first.
"""

import numpy as np
from scipy.signal import decimate

from blend_pl.data.io.nwb import TimeSeries
from blend_pl.data.nlb.signal_checks import check_signal
from blend_pl.data.nlb.spec import BehaviorSpec
from blend_pl.data.nlb.windows import Windows
from blend_pl.data.resample import hold_last_value
from blend_pl.errors import ConfigError, DataError

_FILTER_ORDER = 500
_GRID_TOLERANCE_MS = 1e-3
_MAX_GAP_SAMPLES = 3.5


def check_behavior_series(series: TimeSeries, behavior: BehaviorSpec, bin_ms: int, label: str) -> None:
    """Checks that the selected columns of a series are signals.

    Args:
        series: the series of the file.
        behavior: selects the columns.
        bin_ms: bin width.
        label: series and file, for error messages.

    Raises:
        ConfigError: a selected column does not exist, or `behavior.period` has another number of entries.
        DataError: samples are events, or a column is constant, or an angle without `behavior.period`.
    """
    columns = _selected_columns(series, behavior)
    periods = _column_periods(series, behavior)
    check_signal(series, columns, periods, bin_ms, label)


def whole_rows(binned: np.ndarray, label: str) -> tuple[np.ndarray, float]:
    """Sets bins in which a part of the columns is missing to NaN.

    Args:
        binned: (bins, D), NaN where missing.
        label: series and file, for the error message.

    Returns:
        (bins, D) in which rows are finite or NaN as a whole, and the fraction of such bins among those with any value.

    Raises:
        DataError: no bin has all columns.
    """
    missing = np.isnan(binned)
    n_known = int((~missing.all(axis=1)).sum())
    is_partial = missing.any(axis=1) & ~missing.all(axis=1)
    n_partial = int(is_partial.sum())
    if not n_partial:
        return binned, 0.0
    if n_partial == n_known:
        column = int(missing[is_partial].sum(axis=0).argmax())
        raise DataError(
            f"{label} has no time at which all {binned.shape[1]} columns have a value (column {column} is missing most "
            "often); set behavior.columns to columns that were recorded together"
        )
    whole = binned.copy()
    whole[is_partial] = np.nan
    return whole, n_partial / n_known


def bin_behavior(series: TimeSeries, behavior: BehaviorSpec, n_ms: int, bin_ms: int) -> np.ndarray:
    """Resamples the whole recording to one sample per bin.

    Gaps are interpolated linearly, the series is low-passed by an FIR filter of order 500 and decimated, and bins are
    set to NaN where the series has no value in the bin's first millisecond. Other rates are resampled to the
    millisecond grid by linear interpolation (not across gaps longer than three samples) or, above 1 kHz, by averaging
    the samples around each millisecond; the low-pass prevents aliasing of frequencies above the bins' Nyquist
    frequency. As in nlb_tools the recording is padded with zeros, which affects its first and last 250 ms. Steps, such
    as the states of an IntervalSeries, are not filtered: a bin has the value at its start. Circular columns are
    resampled as their cosine and sine.

    Args:
        series: the series of the file.
        behavior: selects the columns.
        n_ms: length of the recording.
        bin_ms: bin width.

    Returns:
        (bins, D) floating point, in the file's unit; column order as in `behavior.columns`, two for a circular column.

    Raises:
        ConfigError: a selected column does not exist, or `behavior.period` has another number of entries.
        DataError: a column has no value during the recording.
    """
    columns, periods = _selected_columns(series, behavior), _column_periods(series, behavior)
    data = series.data if behavior.columns is None else series.data[:, behavior.columns]
    data, sources = _decompose_circular(data, columns, periods)
    if series.is_step:
        samples = hold_last_value(series.timestamps * 1000.0 - _GRID_TOLERANCE_MS, data, np.arange(0, n_ms, bin_ms))
    else:
        samples = _resample_to_ms(series.timestamps, data, n_ms)
    missing = np.isnan(samples)
    empty_columns = np.flatnonzero(missing.all(axis=0))
    if len(empty_columns):
        raise DataError(
            f"{series.name} has no value in column {sources[empty_columns[0]]} during the recording of "
            f"{n_ms / 1000:g} s; set behavior.columns to columns that were recorded, or behavior.series to another "
            "series"
        )
    if bin_ms == 1 or series.is_step:
        return samples
    missing_bins = missing[::bin_ms].copy()
    for column in range(samples.shape[1]):
        missing_samples = np.flatnonzero(missing[:, column])
        if len(missing_samples):
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


def _selected_columns(series: TimeSeries, behavior: BehaviorSpec) -> list[int]:
    n_columns = series.data.shape[1]
    if behavior.columns is None:
        return list(range(n_columns))
    if not behavior.columns or any(not 0 <= column < n_columns for column in behavior.columns):
        names = f" ({', '.join(series.columns)})" if series.columns else ""
        raise ConfigError(
            f"behavior.columns is {behavior.columns}; {series.name} has the columns 0..{n_columns - 1}{names}"
        )
    return behavior.columns


def _column_periods(series: TimeSeries, behavior: BehaviorSpec) -> list[float | None]:
    n_selected = len(_selected_columns(series, behavior))
    if not isinstance(behavior.period, list):
        return [behavior.period] * n_selected
    if len(behavior.period) != n_selected:
        raise ConfigError(
            f"behavior.period has {len(behavior.period)} entries, and {n_selected} columns of {series.name} are "
            "selected; give one number, or one entry per column, null for columns that are not circular"
        )
    return behavior.period


def _decompose_circular(
    data: np.ndarray, columns: list[int], periods: list[float | None]
) -> tuple[np.ndarray, list[int]]:
    """Replaces circular columns by their cosine and sine; also returns the column of the series of each result."""
    if all(period is None for period in periods):
        return data, columns
    parts, sources = [], []
    for values, column, period in zip(data.T, columns, periods, strict=True):
        angle = values if period is None else values * (2 * np.pi / period)
        parts += [values] if period is None else [np.cos(angle), np.sin(angle)]
        sources += [column] * (1 if period is None else 2)
    return np.stack(parts, axis=1), sources


def _resample_to_ms(times: np.ndarray, data: np.ndarray, n_ms: int) -> np.ndarray:
    """Returns (n_ms, D) samples, NaN where the series has no finite value."""
    resampled = np.full((n_ms, data.shape[1]), np.nan, dtype=data.dtype)
    sample_interval_ms = float(np.median(np.diff(times))) * 1000.0
    times_ms = times * 1000.0
    ms = np.rint(times_ms).astype(np.int64)
    if abs(sample_interval_ms - 1.0) < _GRID_TOLERANCE_MS and np.abs(times_ms - ms).max() < _GRID_TOLERANCE_MS:
        first, stop = np.searchsorted(ms, [0, n_ms])
        resampled[ms[first:stop]] = data[first:stop]
    else:
        for column, values in enumerate(data.T):
            finite = np.isfinite(values)
            sample_ms, values = times_ms[finite], values[finite]
            if sample_interval_ms < 1.0:
                sample_ms, values = _average_per_ms(ms[finite], values)
            if len(sample_ms):
                resampled[:, column] = _interpolate_to_ms(
                    sample_ms, values, n_ms, _MAX_GAP_SAMPLES * max(sample_interval_ms, 1.0)
                )
    resampled[np.isinf(resampled)] = np.nan
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
