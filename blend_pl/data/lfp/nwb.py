"""Reader of NWB files: an ElectricalSeries with field potentials, Units, and a behavioral TimeSeries."""

from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.io.nwb import find_series, open_nwb, read_subject_id, read_time_series, read_units
from blend_pl.data.lfp.preprocessing import FilterChain, Waveform, bin_lfp
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.spec import LFPSeriesNames
from blend_pl.data.lfp.spikes import select_active_units, spike_counts
from blend_pl.data.lfp.timestamps import (
    check_regular_sampling,
    overlapping_bins,
    require_finite_behavior,
    resample_velocity,
    velocity_from_position,
)
from blend_pl.errors import DataError


def read_nwb(path: Path, names: LFPSeriesNames, min_rate_hz: float) -> CrossModalRecording:
    """Reads the time of one file that has both field potentials and behavior; sampling rates are those of the file.

    Args:
        path: the file.
        names: names of the series in the file.
        min_rate_hz: minimum firing rate of the units to keep.

    Raises:
        DataError: the file is damaged or lacks a series; series do not overlap or have pauses; all units fire too
            rarely.
    """
    with open_nwb(path) as file:
        waveform, channels = _find_lfp(file, names.lfp, path)
        series = read_time_series(file, names.velocity or names.position or "")
        columns = list(range(series.data.shape[1])) if names.columns is None else names.columns
        if not columns or max(columns) >= series.data.shape[1] or min(columns) < 0:
            raise DataError(
                f"{series.name} of {path} has {series.data.shape[1]} columns; correct data.spec.names.columns, counted "
                "from 0"
            )
        time_spans = (series.timestamps[0], series.timestamps[-1]), (waveform.start, waveform.stop)
        start, n_bins = overlapping_bins(*time_spans, (series.name, waveform.name))
        velocity = (resample_velocity if names.velocity else velocity_from_position)(
            series.timestamps, series.data[:, columns].astype(np.float64), start, n_bins
        )
        times, unit_id = _read_spike_times(file)
        spikes, unit_id = select_active_units(spike_counts(times, start, n_bins), unit_id, min_rate_hz, str(path))
        return CrossModalRecording(
            name=path.stem,
            subject=read_subject_id(file, path.stem),
            spikes=spikes,
            lfp=bin_lfp(waveform, FilterChain(line_hz=names.line_hz), start, n_bins),
            behavior=require_finite_behavior(velocity, str(path)),
            unit_id=unit_id,
            channel_id=channels,
        )


def _find_lfp(file: h5py.File, name: str | None, path: Path) -> tuple[Waveform, tuple[str, ...]]:
    """Returns the waveform and the names of its channels."""
    series = find_series(file, "ElectricalSeries", name, "data.spec.names.lfp")
    where, data = f"{series.name.removeprefix('/')} of {path}", series["data"]
    if data.ndim not in (1, 2) or data.dtype.kind not in "iuf" or len(data) < 2:
        raise DataError(f"{where} is {data.dtype} of shape {data.shape}; samples by channels are required")
    n_channels = 1 if data.ndim == 1 else data.shape[1]
    if "starting_time" in series:
        starting_time = series["starting_time"]
        start, rate = float(starting_time[()]), float(starting_time.attrs["rate"])
    elif "timestamps" in series and series["timestamps"].size == len(data):
        start, rate = check_regular_sampling(series["timestamps"], where)
    else:
        raise DataError(f"{where} has {len(data)} samples without times; add a starting_time and a rate to the file")

    def read(first: int, last: int) -> np.ndarray:
        samples: np.ndarray = data[first:last].reshape(last - first, n_channels)
        return samples

    storage_chunk = data.chunks[0] if data.chunks else 1
    scale = float(data.attrs.get("conversion", 1.0))
    electrodes = series["electrodes"][()].tolist() if "electrodes" in series else []
    electrode_ids = electrodes if len(electrodes) == n_channels else range(n_channels)
    return Waveform(where, read, len(data), n_channels, rate, start, scale, storage_chunk), tuple(
        f"e{k}" for k in electrode_ids
    )


def _read_spike_times(file: h5py.File) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Returns spike times and names of the units; none for a file without a units table."""
    if "units" not in file:
        return [], ()
    units = read_units(file)
    return [units.spike_times(k) for k in range(len(units))], tuple(f"u{number}" for number in units.id.tolist())
