"""Sessions of O'Doherty et al. (2017; Zenodo 3854034): spikes and cursor in a `.mat`, broadband in an NWB 1.0 file."""

import re
from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.io.nwb import open_nwb
from blend_pl.data.lfp.preprocessing import MAKIN, Waveform, lfp_in_bins
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.spikes import firing_units, spike_counts
from blend_pl.data.lfp.timestamps import regular, require_known, require_times, shared_bins, velocity_of
from blend_pl.errors import DataError

BROADBAND = "acquisition/timeseries/broadband"
SUBJECTS = {"indy": "I", "loco": "L"}


def read_makin(
    session: str, behavior: Path, broadband: Path, min_rate_hz: float, unsorted: bool
) -> CrossModalRecording:
    """One session, as long as both files last.

    The velocity is that of the cursor, in mm/s; unit "c12/2" is the second sorted unit of the channel in row 12.

    Args:
        session: e.g. "indy_20160622_01".
        behavior: the `.mat` file.
        broadband: the NWB 1.0 file.
        min_rate_hz: units that fire less are left out.
        unsorted: whether spikes that no unit was found for count as unit 0 of their channel.

    Raises:
        DataError: a file is damaged, lacks something or is of another session; the clocks do not agree; there are
            units, and all of them fire too rarely.
    """
    with open_nwb(broadband) as file:
        _require_session(file, session, broadband)
        waveform, channels = _broadband(file, broadband)
        with open_nwb(behavior) as mat:
            times, position = _cursor(mat, behavior)
            both = (str(behavior), str(broadband))
            start, n_bins = shared_bins((times[0], times[-1]), (waveform.start, waveform.stop), both)
            units, names = _units(mat, behavior, unsorted)
            spikes, unit_id = firing_units(spike_counts(units, start, n_bins), names, min_rate_hz, str(behavior))
        return CrossModalRecording(
            name=session,
            subject=SUBJECTS.get(session.split("_")[0], session.split("_")[0]),
            spikes=spikes,
            lfp=lfp_in_bins(waveform, MAKIN, start, n_bins),
            behavior=require_known(velocity_of(times, position, start, n_bins), str(behavior)),
            unit_id=unit_id,
            channel_id=channels,
        )


def _require_session(file: h5py.File, session: str, path: Path) -> None:
    """The file may name its session; then it must be this one."""
    for name in ("identifier", "general/session_id"):
        dataset = file.get(name)
        if isinstance(dataset, h5py.Dataset) and h5py.check_string_dtype(dataset.dtype) and dataset.shape == ():
            other = re.search(r"(indy|loco)_\d{8}_\d{2}", dataset.asstr()[()])
            if other and other[0] != session:
                raise DataError(f"{path} is of {other[0]}, not of {session}; fetch the broadband file of {session}")


def _broadband(file: h5py.File, path: Path) -> tuple[Waveform, tuple[str, ...]]:
    data, stamps = _dataset(file, f"{BROADBAND}/data", path), _dataset(file, f"{BROADBAND}/timestamps", path)
    if data.ndim != 2 or data.dtype.kind not in "iuf" or stamps.size != len(data) or len(data) < 2:
        raise DataError(
            f"{path} has broadband data of {data.dtype}, shape {data.shape}, and {stamps.size} time stamps; samples by "
            "channels are needed: fetch it again"
        )
    start, rate = regular(stamps, str(path))
    names = file.get(f"{BROADBAND}/electrode_names")
    channels = tuple(f"c{k}" for k in range(data.shape[1]))
    if isinstance(names, h5py.Dataset) and names.size == data.shape[1] and h5py.check_string_dtype(names.dtype):
        channels = tuple(names.asstr()[()].reshape(-1).tolist())
    scale = float(np.asarray(data.attrs.get("conversion", 1.0)).reshape(-1)[0])
    rows = data.chunks[0] if data.chunks else 1
    n_samples, n_channels = data.shape
    return Waveform(str(path), lambda a, b: data[a:b], n_samples, n_channels, rate, start, scale, rows), channels


def _cursor(mat: h5py.File, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(k,) s and (k, 2) mm."""
    times = _dataset(mat, "t", path)[()].astype(np.float64).reshape(-1)
    position = _dataset(mat, "cursor_pos", path)[()]
    if position.ndim != 2 or position.shape[1] != len(times) or len(times) < 2:
        raise DataError(
            f"{path} has {len(times)} times and a cursor_pos of shape {position.shape[::-1]}; fetch it again"
        )
    require_times(times, str(path))
    return times, position.T


def _units(mat: h5py.File, path: Path, unsorted: bool) -> tuple[list[np.ndarray], list[str]]:
    """Spike times and names of all units that have any."""
    cells = _dataset(mat, "spikes", path)
    if cells.dtype != h5py.ref_dtype or cells.ndim != 2:
        raise DataError(f"{path} has no cells of spike times in spikes; fetch it again")
    times, names = [], []
    # A MATLAB array is stored transposed: a row for each unit, the first for the unsorted spikes, a column a channel.
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
        raise DataError(f"{path} has no {name}; it is not of the layout of Zenodo 3854034: fetch it again")
    return dataset
