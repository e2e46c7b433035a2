"""Reader of the behavioral time series of one NWB file."""

import h5py
import numpy as np

from blend_pl.data.io.nwb import TimeSeries, has_time_series, read_time_series
from blend_pl.data.nlb.behavior import check_behavior_series
from blend_pl.data.nlb.spec import BehaviorSpec
from blend_pl.errors import DataError

_CLOCK_TOLERANCE_S = 1e-6


def read_behavior_series(
    file: h5py.File, behavior: BehaviorSpec | None, bin_ms: int, required: bool, stored: bool = False
) -> TimeSeries | None:
    """Reads and checks the series that a spec names; the columns of several are joined.

    Args:
        file: the open file.
        behavior: names the series; None for none.
        bin_ms: bin width.
        required: whether a file without the series is an error.
        stored: whether values stay as stored, without the conversion and offset of the file.

    Returns:
        The series; None without one.

    Raises:
        DataError: a series is missing, is not a signal, or has other timestamps than the first one.
        ConfigError: `behavior.columns` or `behavior.period` do not match the series.
    """
    names = behavior.series_names if behavior else []
    if behavior is None or not names or not (required or all(has_time_series(file, name) for name in names)):
        return None
    series = _join([read_time_series(file, name, stored) for name in names], file.filename)
    check_behavior_series(series, behavior, bin_ms, f"{series.name} in {file.filename}")
    return series


def _join(all_series: list[TimeSeries], filename: str) -> TimeSeries:
    """Joins the columns of series with the same timestamps."""
    first = all_series[0]
    if len(all_series) == 1:
        return first
    for series in all_series[1:]:
        same_length = len(series.timestamps) == len(first.timestamps)
        if not same_length or not np.allclose(series.timestamps, first.timestamps, rtol=0, atol=_CLOCK_TOLERANCE_S):
            raise DataError(
                f"{first.name} and {series.name} in {filename} have different timestamps ({_describe_clock(first)}; "
                f"{_describe_clock(series)}); set behavior.series to series with the same timestamps, or resample them"
            )
        if series.is_step != first.is_step:
            raise DataError(
                f"{first.name} and {series.name} in {filename} cannot be joined, because only one of them has steps; "
                "set behavior.series to one of them"
            )
    columns = [
        f"{series.name} {column}".rstrip()
        for series in all_series
        for column in series.columns or [""] * series.data.shape[1]
    ]
    units = {series.unit for series in all_series}
    return TimeSeries(
        " and ".join(series.name for series in all_series),
        first.timestamps,
        np.concatenate([series.data for series in all_series], axis=1),
        columns,
        units.pop() if len(units) == 1 else "",
        first.is_step,
    )


def _describe_clock(series: TimeSeries) -> str:
    return f"{len(series.timestamps)} samples from {series.timestamps[0]:g} to {series.timestamps[-1]:g} s"
