"""Checks that a behavioral time series is a signal: continuous in time, neither constant nor wrapped around."""

from collections.abc import Sequence

import numpy as np

from blend_pl.data.io.nwb import TimeSeries
from blend_pl.data.limits import finite_limits, is_constant
from blend_pl.errors import DataError

MAX_MEDIAN_GAP_S = 1.0
"""Longest median distance of samples of a signal."""
MAX_IRREGULAR_GAP_BINS = 5
"""Longest median distance of irregular samples of a signal, in bins."""
MIN_WRAPS = 2
_REGULAR_RANGE = (0.8, 1.25)
"""Distances of samples, relative to the median, that count as regular."""
_LENGTH_UNITS = ("m", "cm", "mm", "um", "meter", "meters", "metre", "metres", "centimeters", "pixel", "pixels", "px")


def check_signal(
    series: TimeSeries, columns: Sequence[int], periods: Sequence[float | None], bin_ms: int, label: str
) -> None:
    """Checks the selected columns of a series before they are resampled.

    Args:
        series: the series.
        columns: the selected columns.
        periods: period of each of them, None for a column that is not circular.
        bin_ms: bin width.
        label: series and file, for error messages.

    Raises:
        DataError: samples are events, or a column is constant or wraps around without a period or at another one.
    """
    constant = [column for column in columns if is_constant(series.data[:, column])]
    varying = [column for column in columns if column not in constant]
    if constant:
        value = series.data[np.isfinite(series.data[:, constant[0]]), constant[0]][0]
        has_one_value = f"{label} has the value {value:g} in all samples"
        if not varying:
            raise DataError(
                f"{has_one_value}: {'the times of events' if is_sparse(series.timestamps, bin_ms) else 'a constant'}, "
                "not a signal; set behavior.series to another series"
            )
        raise DataError(f"{has_one_value} of column {constant[0]}; set behavior.columns to {varying}")
    if not series.is_step and is_sparse(series.timestamps, bin_ms):
        gap_s = float(np.median(np.diff(series.timestamps)))
        raise DataError(
            f"{label} has a sample every {gap_s:.3g} s, too few for bins of {bin_ms} ms: events, not a signal, or "
            "times that are not in seconds; set behavior.series to a signal, give one value per trial as "
            "behavior.trial_columns, or write its times in seconds"
        )
    for column, stated in zip(columns, periods, strict=True):
        period = None if series.is_step else wrap_period(series.data[:, column], series.unit)
        if period is not None and stated is not None and not _is_multiple(period, stated):
            raise DataError(
                f"{label} wraps around by {period:.4g} in column {column}, and its behavior.period is {stated:g}; set "
                f"it to {period:.8g}"
            )
        if period is not None and stated is None:
            raise DataError(
                f"{label} jumps by {period:.4g} in column {column}, as an angle that wraps around; set behavior.period "
                f"to {period:.8g}, which replaces it by its cosine and sine"
            )


def _is_multiple(period: float, stated: float) -> bool:
    ratio = period / stated
    return bool(ratio > 0.5 and abs(ratio - round(ratio)) < 0.01)


def is_sparse(times: np.ndarray, bin_ms: int) -> bool:
    """Whether samples are too far apart for a signal in bins: events, or a log of changes.

    Args:
        times: (samples,) s, increasing.
        bin_ms: bin width.
    """
    times = times[np.isfinite(times)]
    if len(times) < 2:
        return True
    bin_s = bin_ms / 1000
    # Half of the gaps would be longer than the whole time.
    if times[-1] - times[0] < MAX_IRREGULAR_GAP_BINS * bin_s * (len(times) - 1) / 2:
        return False
    gaps = np.diff(times)
    median = float(np.median(gaps))
    low, high = _REGULAR_RANGE
    is_regular = np.mean((gaps >= low * median) & (gaps <= high * median)) > 0.5
    longest = max(MAX_MEDIAN_GAP_S, MAX_IRREGULAR_GAP_BINS * bin_s) if is_regular else MAX_IRREGULAR_GAP_BINS * bin_s
    return bool(median > longest * (1 + 1e-9))


def wrap_period(values: np.ndarray, unit: str) -> float | None:
    """Returns the period at which an angle wraps around.

    Args:
        values: (samples,) of one column, or (trials, samples); NaN where missing.
        unit: unit of the series; empty if unknown.

    Returns:
        360 or 2 pi, for units of angle also their halves, and 1 for turns; None for a column that does not wrap around.

    Example:
        >>> angle = np.arange(0, 1500, 7.0)
        >>> wrap_period(angle % 360, "degrees"), wrap_period(angle, "degrees")
        (360.0, None)
    """
    name = unit.strip().lower()
    if name in _LENGTH_UNITS:
        return None
    periods = [360.0, 2 * np.pi]
    if name.startswith(("deg", "rad", "°")):
        periods += [180.0, np.pi]
    if name.startswith(("turn", "rev", "cycle")):
        periods.append(1.0)
    low, high = finite_limits(values) or (0.0, 0.0)
    extent = high - low
    periods = [period for period in periods if 0.75 * period <= extent <= 1.02 * period]
    if not periods:
        return None
    steps = np.abs(np.diff(np.where(np.isfinite(values), values, np.nan), axis=-1))
    steps = steps[np.isfinite(steps)]
    for period in periods:
        n_wraps, n_between = (
            int((steps > 0.75 * period).sum()),
            int(((steps > 0.25 * period) & (steps <= 0.75 * period)).sum()),
        )
        if n_wraps >= MIN_WRAPS and n_between <= n_wraps and n_wraps <= 0.2 * len(steps):
            return float(period)
    return None
