"""Reader of O'Doherty et al. (2017; Zenodo 3854034): spikes and cursor in a `.mat`, broadband in an NWB 1.0 file."""

import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.io.nwb import open_nwb
from blend_pl.data.lfp.preprocessing import MAKIN_FILTERS, Waveform, bin_lfp, without_bad_channels
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.spikes import select_active_units, spike_counts
from blend_pl.data.lfp.timestamps import (
    check_regular_sampling,
    overlapping_bins,
    require_finite_behavior,
    velocity_from_position,
)
from blend_pl.data.resample import require_increasing
from blend_pl.errors import DataError

BROADBAND_GROUP = "acquisition/timeseries/broadband"
MAKIN_SUBJECTS = {"indy": "I", "loco": "L"}


def read_makin(
    session: str,
    mat_path: Path,
    broadband_path: Path,
    min_rate_hz: float,
    unsorted: bool,
    bad_channels: Sequence[int | str] = (),
) -> CrossModalRecording:
    """Reads the time of one session that is in both files.

    The velocity is that of the cursor, in mm/s; unit "c12/2" is the second sorted unit of the channel in row 12.

    Args:
        session: name of the session, e.g. "indy_20160622_01".
        mat_path: the `.mat` file.
        broadband_path: the NWB 1.0 file.
        min_rate_hz: minimum firing rate of the units to keep.
        unsorted: include unsorted spikes, as unit 0 of their channel.
        bad_channels: names of channels to leave out.

    Raises:
        DataError: a file is damaged, incomplete or of another session; the clocks disagree; all units fire too rarely.
    """
    with open_nwb(broadband_path) as file:
        _check_session_name(file, session, broadband_path)
        waveform, notes = without_bad_channels(_read_broadband(file, broadband_path), bad_channels)
        with open_nwb(mat_path) as mat:
            times, position = _read_cursor(mat, mat_path)
            paths = (str(mat_path), str(broadband_path))
            start, n_bins = overlapping_bins((times[0], times[-1]), (waveform.start, waveform.stop), paths)
            spike_times, names = _read_spike_times(mat, mat_path, unsorted)
            spikes, unit_id = select_active_units(
                spike_counts(spike_times, start, n_bins), names, min_rate_hz, str(mat_path)
            )
        lfp = bin_lfp(waveform, MAKIN_FILTERS, start, n_bins)
        return CrossModalRecording(
            name=session,
            subject=MAKIN_SUBJECTS.get(session.split("_")[0], session.split("_")[0]),
            spikes=spikes,
            lfp=lfp.values,
            behavior=require_finite_behavior(velocity_from_position(times, position, start, n_bins), str(mat_path)),
            unit_id=unit_id,
            channel_id=tuple(waveform.channel_id[channel] for channel in lfp.channels),
            notes=(*notes, *lfp.notes),
        )


def _check_session_name(file: h5py.File, session: str, path: Path) -> None:
    """Checks the session in the identifier or session id, if there is one."""
    for name in ("identifier", "general/session_id"):
        dataset = file.get(name)
        if isinstance(dataset, h5py.Dataset) and h5py.check_string_dtype(dataset.dtype) and dataset.shape == ():
            match = re.search(r"(indy|loco)_\d{8}_\d{2}", dataset.asstr()[()])
            if match and match[0] != session:
                raise DataError(f"{path} is of {match[0]}, not of {session}; download the broadband file of {session}")


def _read_broadband(file: h5py.File, path: Path) -> Waveform:
    data, timestamps = (
        _dataset(file, f"{BROADBAND_GROUP}/data", path),
        _dataset(file, f"{BROADBAND_GROUP}/timestamps", path),
    )
    if data.ndim != 2 or data.dtype.kind not in "iuf" or timestamps.size != len(data) or len(data) < 2:
        raise DataError(
            f"{path} has broadband data of {data.dtype}, shape {data.shape}, and {timestamps.size} timestamps; samples "
            "by channels are required: download it again"
        )
    start, rate = check_regular_sampling(timestamps, str(path))
    names = file.get(f"{BROADBAND_GROUP}/electrode_names")
    channels = tuple(f"c{k}" for k in range(data.shape[1]))
    if isinstance(names, h5py.Dataset) and names.size == data.shape[1] and h5py.check_string_dtype(names.dtype):
        channels = tuple(names.asstr()[()].reshape(-1).tolist())
    scale = float(np.asarray(data.attrs.get("conversion", 1.0)).reshape(-1)[0])
    storage_chunk = data.chunks[0] if data.chunks else 1
    n_samples, n_channels = data.shape
    return Waveform(
        str(path),
        lambda a, b: data[a:b],
        n_samples,
        n_channels,
        rate,
        start,
        scale,
        storage_chunk,
        channel_id=channels,
    )


def _read_cursor(mat: h5py.File, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the times (k,) in s and the cursor position (k, 2) in mm."""
    times = _dataset(mat, "t", path)[()].astype(np.float64).reshape(-1)
    position = _dataset(mat, "cursor_pos", path)[()]
    if position.ndim != 2 or position.shape[1] != len(times) or len(times) < 2:
        raise DataError(
            f"{path} has {len(times)} times and a cursor_pos of shape {position.shape[::-1]}; download it again"
        )
    require_increasing(times, f"the behavior of {path}")
    return times, position.T


def _read_spike_times(mat: h5py.File, path: Path, unsorted: bool) -> tuple[list[np.ndarray], list[str]]:
    """Returns spike times and names of all units that have spikes."""
    cells = _dataset(mat, "spikes", path)
    if cells.dtype != h5py.ref_dtype or cells.ndim != 2:
        raise DataError(f"{path} has no cell array of spike times in spikes; download it again")
    times, names = [], []
    # MATLAB arrays are stored transposed: one row per unit, the first for unsorted spikes, and one column per channel.
    for unit, row in enumerate(cells[()]):
        if unit == 0 and not unsorted:
            continue
        for channel, reference in enumerate(row):
            cell = mat[reference] if reference else None
            if cell is not None and cell.size and not cell.attrs.get("MATLAB_empty", 0):
                times.append(cell[()].astype(np.float64).reshape(-1))
                names.append(f"c{channel + 1}/{unit}")
    return times, names


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{path} has no {name}; it does not have the layout of Zenodo 3854034: download it again")
    return dataset
