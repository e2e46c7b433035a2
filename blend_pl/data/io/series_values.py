"""Values of NWB time series: neurodata types that are signals, shapes, and conversion to the unit of the file."""

import h5py
import numpy as np

from blend_pl.errors import DataError

NO_SIGNAL = {
    "AnnotationSeries": "texts at points in time",
    "ImageSeries": "images",
    "ImageMaskSeries": "images",
    "OpticalSeries": "images",
    "OnePhotonSeries": "images",
    "TwoPhotonSeries": "images",
    "IndexSeries": "indices of images",
    "SpikeEventSeries": "waveforms of spikes",
}
"""Neurodata types without a value that changes in time, and what they hold."""
_MISSING_CODES = (-32768.0, 32767.0, 65535.0, -2147483648.0, 2147483647.0, 1e8, -1e8)
"""Values that trackers write for a missing sample; whole numbers of nines, such as -9999, also count as such."""
_MIN_CODE_DISTANCE = 5.0
"""Shortest distance of such a value from all others, in multiples of their range."""


def read_values(group: h5py.Group, label: str, stored: bool = False) -> np.ndarray:
    """Reads the values of a time series as data * conversion * channel_conversion + offset.

    Shapes are checked before anything is read. A conversion of 1 and an offset of 0 leave the values as they are.

    Args:
        group: group of the series.
        label: series and file, for error messages.
        stored: whether to return the stored values without conversion.

    Returns:
        (samples, D) float32 for float32 data, otherwise float64.

    Raises:
        DataError: the series is not a signal, e.g. events or images; its data are not numbers in one or two dimensions,
            or are transposed; a number stands for missing values; or its conversion is unusable.
    """
    neurodata_type = series_type(group)
    dataset = group["data"]
    if neurodata_type in NO_SIGNAL:
        raise DataError(
            f"{label} is of the type {neurodata_type}, which holds {NO_SIGNAL[neurodata_type]}; set behavior.series to "
            "a series of numbers, or give one value per trial as behavior.trial_columns or behavior.categories"
        )
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "biuf" or dataset.ndim not in (1, 2):
        kind = f"{dataset.dtype} of shape {dataset.shape}" if isinstance(dataset, h5py.Dataset) else "a group"
        raise DataError(f"{label} is {kind}; a series of numbers is needed")
    _check_orientation(group, dataset.shape, label)
    if continuity(group) == "instantaneous":
        raise DataError(
            f"{label} is marked as instantaneous, moments in time such as licks; behavior needs a signal with a value "
            "at any time: count the events in bins, or give one value per trial as behavior.trial_columns"
        )
    values: np.ndarray = dataset[()]
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    if values.ndim == 1:
        values = values[:, None]
    if stored:
        return values
    _check_missing_codes(values, label)
    return _convert(group, dataset, values, label)


def series_type(group: h5py.Group) -> str:
    """Returns the neurodata type of a series; an empty string without one."""
    return _text(group.attrs.get("neurodata_type", ""))


def series_unit(group: h5py.Group) -> str:
    """Returns the unit of a series; an empty string without one."""
    data = group.get("data")
    return _text(data.attrs.get("unit", "")) if isinstance(data, h5py.Dataset) else ""


def continuity(group: h5py.Group) -> str:
    """Returns continuous, step or instantaneous; an empty string if the file does not say."""
    data = group.get("data")
    return _text(data.attrs.get("continuity", "")) if isinstance(data, h5py.Dataset) else ""


def interval_states(times: np.ndarray, codes: np.ndarray, label: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Converts the bounds of an IntervalSeries to states that hold until the next bound.

    Args:
        times: (bounds,) s, not decreasing.
        codes: (bounds,) or (bounds, 1) kind of interval, positive where one starts and negative where it stops.
        label: series and file, for error messages.

    Returns:
        (states,) times at which the states begin, the first one -inf; (states, K) 1 inside and 0 outside of intervals
        of each kind; and the names of the kinds.

    Raises:
        DataError: a bound is 0 or fractional, or times decrease.

    Example:
        >>> times, states, _ = interval_states(np.array([2.0, 4.5]), np.array([1, -1]), "running")
        >>> times.tolist(), states[:, 0].tolist()
        ([-inf, 2.0, 4.5], [0.0, 1.0, 0.0])
    """
    codes = np.asarray(codes, dtype=np.float64)
    if codes.size != len(times) or not len(times):
        raise DataError(f"{label} has {codes.shape} bounds at {len(times)} times; one bound per time is needed")
    codes = codes.reshape(-1)
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise DataError(f"{label} has bounds of intervals out of order or not finite; sort them")
    if not ((codes != 0) & (codes == np.trunc(codes))).all():
        raise DataError(
            f"{label} is an IntervalSeries with the value {codes[(codes == 0) | (codes != np.trunc(codes))][0]:g}; "
            "its values must be 1 where an interval starts and -1 where it stops, or n and -n for intervals of kind n"
        )
    kinds = np.unique(np.abs(codes))
    states = np.empty((len(times) + 1, len(kinds)))
    for column, kind in enumerate(kinds):
        of_kind = np.flatnonzero(np.abs(codes) == kind)
        inside = codes[of_kind] > 0
        last = np.searchsorted(of_kind, np.arange(-1, len(times)), side="right") - 1
        states[:, column] = np.where(last < 0, not inside[0], inside[np.maximum(last, 0)])
    is_last_at_time = np.append(np.diff(times) > 0, True)
    rows = np.append(True, is_last_at_time)
    return np.append(-np.inf, times)[rows], states[rows], [f"{kind:g}" for kind in kinds]


def _check_orientation(group: h5py.Group, shape: tuple[int, ...], label: str) -> None:
    if len(shape) != 2 or shape[1] <= shape[0]:
        return
    timestamps = group.get("timestamps")
    n_times = timestamps.shape[0] if isinstance(timestamps, h5py.Dataset) and timestamps.ndim == 1 else None
    if n_times is None or n_times == shape[1]:
        clock = "a rate" if n_times is None else f"{n_times} timestamps"
        raise DataError(
            f"{label} has {shape[0]} samples by {shape[1]} columns and {clock}: transposed? write its data as "
            f"(samples, columns), here {shape[::-1]}"
        )


def _check_missing_codes(values: np.ndarray, label: str) -> None:
    """Checks that no stored extreme value is a code for missing values: repeated, and far from all others."""
    for column, samples in enumerate(values.T):
        finite = samples[np.isfinite(samples)]
        for code in (finite.min(), finite.max()) if len(finite) else ():
            if not _is_missing_code(float(code)):
                continue
            others = finite[finite != code]
            n_coded = len(finite) - len(others)
            if n_coded < 2 or not len(others):
                continue
            distance = float(np.abs(others.astype(np.float64) - float(code)).min())
            if distance > _MIN_CODE_DISTANCE * float(np.ptp(others)) > 0.0:
                raise DataError(
                    f"{label} has the value {code:g} in {n_coded} of {len(samples)} samples of column {column}, far "
                    f"from all others ({others.min():.4g} to {others.max():.4g}): a code for missing values; write NaN"
                )


def _is_missing_code(value: float) -> bool:
    return value in _MISSING_CODES or (value.is_integer() and abs(value) >= 99 and set(str(int(abs(value)))) == {"9"})


def _convert(group: h5py.Group, dataset: h5py.Dataset, values: np.ndarray, label: str) -> np.ndarray:
    factor, offset = (
        _number(dataset.attrs.get(name, default), name, label)
        for name, default in (("conversion", 1.0), ("offset", 0.0))
    )
    if factor == 0.0:
        raise DataError(f"{label} has the conversion 0, which makes all values equal; correct the file")
    channels = group.get("channel_conversion")
    if isinstance(channels, h5py.Dataset):
        factors = np.asarray(channels[()], dtype=np.float64).reshape(-1)
        if factors.shape != (values.shape[1],) or not np.isfinite(factors).all():
            raise DataError(
                f"{label} has {len(factors)} values of channel_conversion for {values.shape[1]} columns; correct the "
                "file"
            )
        if (factors != 1.0).any():
            values = values * factors.astype(values.dtype)
    if factor != 1.0:
        values = values * values.dtype.type(factor)
    return values + values.dtype.type(offset) if offset != 0.0 else values


def _number(value: object, name: str, label: str) -> float:
    number = np.asarray(value)
    if number.dtype.kind not in "biuf" or number.size != 1 or not np.isfinite(number).all():
        raise DataError(f"{label} has the {name} {value}; a finite number is needed: correct the file")
    return float(number.reshape(-1)[0])


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
