"""Reader of the ElectricalSeries of an NWB file: samples in volts, channels, and several probes on one clock."""

from collections.abc import Sequence
from dataclasses import replace

import h5py
import numpy as np

from blend_pl.data.io.nwb import find_series
from blend_pl.data.io.selection import RowSelection, read_selected_rows
from blend_pl.data.lfp.preprocessing import Waveform, select_channels
from blend_pl.data.lfp.timestamps import check_regular_sampling
from blend_pl.errors import DataError

SETTING = "data.spec.names.lfp"


def read_lfp(
    file: h5py.File, names: str | list[str] | None, selection: RowSelection | None
) -> tuple[Waveform, tuple[str, ...]]:
    """Returns the waveform of one or more series, and notes on what is left out.

    Values are `data * conversion * channel_conversion + offset`. Channels are named after the ids of their electrodes.

    Args:
        file: the open file.
        names: name of the series; None for the only one; a list to join the channels of several series.
        selection: rows of the electrodes table to use; None for all.

    Raises:
        DataError: a series is missing, has no times, is transposed or has a factor that is not a number; several series
            do not share a clock; no channel is selected.
    """
    groups = [find_series(file, "ElectricalSeries", name, SETTING) for name in _as_list(names)]
    if len({group.name for group in groups}) < len(groups):
        raise DataError(f"{SETTING} names a series of {file.filename} twice: {names}; list each once")
    waveforms, is_selected = [], []
    for group in groups:
        waveform = _read_series(group)
        rows = _electrode_rows(group, waveform.n_channels)
        waveforms.append(replace(waveform, channel_id=_channel_ids(group, rows, waveform.n_channels)))
        is_selected.append(_selected_channels(group, rows, waveform.n_channels, selection))
    joined, notes = _join(waveforms, [group.name.rsplit("/", 1)[-1] for group in groups], file.filename)
    channels = np.flatnonzero(np.concatenate(is_selected))
    if not len(channels):
        raise DataError(f"{joined.name} has no channel of data.spec.channels; correct it, or choose another series")
    if len(channels) == joined.n_channels:
        return joined, notes
    n_left_out = joined.n_channels - len(channels)
    note = (
        f"{joined.name}: {n_left_out} of {joined.n_channels} channels ({100 * n_left_out / joined.n_channels:.0f} %) "
        "are left out by data.spec.channels"
    )
    return select_channels(joined, channels), (*notes, note)


def _as_list(names: str | list[str] | None) -> Sequence[str | None]:
    return names if isinstance(names, list) and names else [names if isinstance(names, str) else None]


def _read_series(series: h5py.Group) -> Waveform:
    where, data = f"{series.name.removeprefix('/')} of {series.file.filename}", series["data"]
    if data.ndim not in (1, 2) or data.dtype.kind not in "iuf" or len(data) < 2:
        raise DataError(f"{where} is {data.dtype} of shape {data.shape}; samples by channels are required")
    n_channels = 1 if data.ndim == 1 else data.shape[1]
    n_electrodes = len(series["electrodes"]) if "electrodes" in series else None
    if n_channels > len(data) or (n_electrodes == len(data) and n_electrodes != n_channels):
        raise DataError(
            f"{where} has {len(data)} samples of {n_channels} channels"
            f"{f' and {n_electrodes} electrodes' if n_electrodes is not None else ''}: it is transposed; write it as "
            "samples by channels"
        )
    start, rate = _read_clock(series, len(data), where)

    def read(first: int, last: int) -> np.ndarray:
        samples: np.ndarray = data[first:last].reshape(last - first, n_channels)
        return samples

    scale, offset = _read_scale(series, n_channels, where)
    storage_chunk = data.chunks[0] if data.chunks else 1
    return Waveform(where, read, len(data), n_channels, rate, start, scale, storage_chunk, offset)


def _read_clock(series: h5py.Group, n_samples: int, where: str) -> tuple[float, float]:
    """Returns the time of the first sample, s, and the sampling rate."""
    if "starting_time" in series:
        starting_time = series["starting_time"]
        start = _number(starting_time[()], "starting_time", where)
        rate = _number(starting_time.attrs.get("rate", "none"), "rate", where)
    elif "timestamps" in series and series["timestamps"].size == n_samples:
        start, rate = check_regular_sampling(series["timestamps"], where)
    else:
        raise DataError(f"{where} has {n_samples} samples without times; add a starting_time and a rate to the file")
    if not (np.isfinite(start) and np.isfinite(rate) and rate > 0):
        raise DataError(f"{where} starts at {start} s with {rate} samples per second; correct the file")
    return start, rate


def _read_scale(series: h5py.Group, n_channels: int, where: str) -> tuple[float | np.ndarray, float]:
    """Returns the factor, or (C,) factors, and the offset that convert stored values to volts."""
    conversion = _number(series["data"].attrs.get("conversion", 1.0), "conversion", where)
    offset = _number(series["data"].attrs.get("offset", 0.0), "offset", where)
    scale: float | np.ndarray = conversion
    if "channel_conversion" in series:
        factors = series["channel_conversion"][()].astype(np.float64).reshape(-1)
        if len(factors) != n_channels:
            raise DataError(
                f"{where} has {len(factors)} values of channel_conversion for {n_channels} channels; correct the file"
            )
        scale = conversion * factors
    if not np.isfinite(offset) or not np.isfinite(scale).all() or not np.all(scale):
        raise DataError(
            f"{where} has a conversion, channel_conversion or offset that is zero or not finite; correct the file"
        )
    return scale, offset


def _number(value: object, name: str, where: str) -> float:
    number = np.asarray(value)
    try:
        return float(number.reshape(-1)[0]) if number.size == 1 else float("nan")
    except ValueError:
        raise DataError(f"{where} has the {name} {value!s}; a number is needed: correct the file") from None


def _electrode_rows(series: h5py.Group, n_channels: int) -> np.ndarray | None:
    """Returns the (C,) rows of the channels in the electrodes table; None if the series does not say them."""
    electrodes = series.get("electrodes")
    if not isinstance(electrodes, h5py.Dataset) or len(electrodes) != n_channels:
        return None
    rows: np.ndarray = electrodes[()].astype(np.int64)
    table = _electrodes_table(series)
    if table is not None and "id" in table and not ((rows >= 0) & (rows < len(table["id"]))).all():
        raise DataError(
            f"{series.name.removeprefix('/')} of {series.file.filename} has electrodes that are not in the electrodes "
            f"table of {len(table['id'])} rows; correct the file"
        )
    return rows


def _electrodes_table(series: h5py.Group) -> h5py.Group | None:
    reference = series["electrodes"].attrs.get("table")
    table = series.file[reference] if isinstance(reference, h5py.Reference) else None
    return table if isinstance(table, h5py.Group) else None


def _channel_ids(series: h5py.Group, rows: np.ndarray | None, n_channels: int) -> tuple[str, ...]:
    if rows is None:
        return tuple(f"e{channel}" for channel in range(n_channels))
    table = _electrodes_table(series)
    ids = table["id"][()] if table is not None and "id" in table else np.arange(rows.max(initial=-1) + 1)
    # Repeated ids do not identify channels.
    numbers = ids[rows] if len(np.unique(ids)) == len(ids) else rows
    return tuple(f"e{number}" for number in numbers)


def _selected_channels(
    series: h5py.Group, rows: np.ndarray | None, n_channels: int, selection: RowSelection | None
) -> np.ndarray:
    """Returns the (C,) bool mask of the channels to use."""
    if selection is None:
        return np.ones(n_channels, dtype=bool)
    table = _electrodes_table(series) if rows is not None else None
    if rows is None or table is None:
        raise DataError(
            f"{series.name.removeprefix('/')} of {series.file.filename} does not say the electrodes of its "
            f"{n_channels} channels; set data.spec.channels to null, or correct the file"
        )
    selected: np.ndarray = read_selected_rows(table, selection, "data.spec.channels")[rows]
    return selected


def _join(waveforms: list[Waveform], names: list[str], filename: str) -> tuple[Waveform, tuple[str, ...]]:
    """Returns a waveform with the channels of all, and a note if some of them are longer than others."""
    first = waveforms[0]
    if len(waveforms) == 1:
        return first, ()
    n_samples = min(waveform.n_samples for waveform in waveforms)
    for waveform in waveforms[1:]:
        start_error = abs(waveform.start - first.start)
        stop_error = abs(waveform.start + n_samples / waveform.rate - first.start - n_samples / first.rate)
        if max(start_error, stop_error) > 0.5 / first.rate:
            raise DataError(
                f"{waveform.name} starts at {waveform.start:g} s with {waveform.rate:.10g} samples per second, "
                f"{first.name} at {first.start:g} s with {first.rate:.10g}; only series on one clock can be joined: "
                f"resample them, or choose one with {SETTING}"
            )
    longest = max(waveform.n_samples for waveform in waveforms)
    name = f"{' and '.join(names)} of {filename}"
    share = 100 * (longest - n_samples) / longest
    notes = (f"{name}: the last {share:.2g} % of the samples are not in all series and are left out",) if share else ()

    def read(start: int, stop: int) -> np.ndarray:
        return np.concatenate([waveform.read(start, stop) for waveform in waveforms], axis=1)

    channel_id = [channel for waveform in waveforms for channel in waveform.channel_id]
    if len(set(channel_id)) < len(channel_id):
        channel_id = [
            f"{series}/{channel}"
            for series, waveform in zip(names, waveforms, strict=True)
            for channel in waveform.channel_id
        ]
    scale, offset = (
        np.concatenate([np.broadcast_to(getattr(waveform, factor), waveform.n_channels) for waveform in waveforms])
        for factor in ("scale", "offset")
    )
    joined = Waveform(
        name=name,
        read=read,
        n_samples=n_samples,
        n_channels=len(channel_id),
        rate=first.rate,
        start=first.start,
        scale=scale,
        storage_chunk=max(waveform.storage_chunk for waveform in waveforms),
        offset=offset,
        channel_id=tuple(channel_id),
    )
    return joined, notes
