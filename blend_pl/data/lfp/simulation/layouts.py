"""A simulated session in each layout."""

from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.data.lfp.simulation.session import Session

BEHAVIOR_HZ = 250
FLINT_BEHAVIOR_HZ = 100
CLOCK_S, EARLIER_S = 1288.0, 4.0
"""When behaviour starts on the clock of a session, and how much earlier the broadband does."""

CONVERSION = 2.5e-7
"""Volt a count."""

TRIALS_S = (2.0, 5.0)
"""Shortest and longest trial of the Flint layout."""

_RECORDED = datetime(2020, 1, 1, tzinfo=UTC)


def write_makin(session: Session, rate_hz: float, name: str, folder: Path, rng: np.random.Generator) -> None:
    """`NAME.mat` as MATLAB 7.3 stores it, with some of the spikes in units and the others unsorted, and `NAME.nwb`."""
    times = np.arange(round((len(session.velocity) - 1) * BIN_MS / 1000 * BEHAVIOR_HZ) + 1) / BEHAVIOR_HZ
    position = _position(session.velocity, times)
    n_channels = session.lfp.shape[1]
    with h5py.File(folder / f"{name}.mat", "w", userblock_size=512) as mat:
        mat["t"] = CLOCK_S + times[None]
        mat["cursor_pos"] = mat["target_pos"] = position.T
        mat["finger_pos"] = np.concatenate([position * 0, position / -10], axis=1).T[1:]
        _write_cells(mat, session.spikes, n_channels, rng)
    early = round(EARLIER_S * rate_hz)
    data = np.concatenate([session.lfp[early:0:-1], session.lfp]) * (1e-6 / CONVERSION)
    with h5py.File(folder / f"{name}.nwb", "w") as nwb:
        nwb["nwb_version"], nwb["identifier"] = "NWB-1.0.6", name
        series = nwb.create_group("acquisition/timeseries/broadband")
        written = series.create_dataset("data", data=np.clip(data.round(), -32768, 32767).astype(np.int16), chunks=True)
        written.attrs["conversion"], written.attrs["unit"] = CONVERSION, "volt"
        series["timestamps"] = CLOCK_S + (np.arange(len(data)) - early) / rate_hz
        series["electrode_names"] = [f"M1 {k + 1:03d}".encode() for k in range(n_channels)]
        nwb["general/extracellular_ephys/electrode_map"] = np.zeros((n_channels, 3))


def write_flint(sessions: list[Session], rate_hz: float, path: Path, rng: np.random.Generator) -> None:
    """One `.mat` of several Subjects; each session is cut into trials that follow each other."""
    subjects = np.zeros(len(sessions), dtype=[("Trial", object)])
    for subject, session in zip(subjects, sessions, strict=True):
        subject["Trial"] = _trials(session, rate_hz, rng)
    # Version 5 stores what it is given in single precision so.
    savemat(path, {"Subject": subjects})


def write_nwb(session: Session, rate_hz: float, subject: str, path: Path) -> None:
    """An NWB 2 file: an ElectricalSeries `lfp`, Units, and a TimeSeries `hand_vel`."""
    from pynwb import NWBHDF5IO, NWBFile, TimeSeries
    from pynwb.ecephys import LFP, ElectricalSeries
    from pynwb.file import Subject

    file = NWBFile("a simulated session", path.stem, _RECORDED, file_create_date=_RECORDED)
    file.subject = Subject(subject_id=subject, description="simulated")
    group = file.create_electrode_group("array", "electrodes", "motor cortex", file.create_device("array"))
    for _ in range(session.lfp.shape[1]):
        file.add_electrode(group=group, location="motor cortex")
    region = file.create_electrode_table_region(list(range(session.lfp.shape[1])), "all")
    potentials = LFP()
    file.create_processing_module("ecephys", "field potentials").add(potentials)
    potentials.add_electrical_series(
        ElectricalSeries(
            name="lfp", data=session.lfp, electrodes=region, starting_time=0.0, rate=rate_hz, conversion=1e-6
        )
    )
    for times in session.spikes:
        file.add_unit(spike_times=times)
    velocity = TimeSeries(name="hand_vel", data=session.velocity, unit="mm/s", starting_time=0.0, rate=1000.0 / BIN_MS)
    file.create_processing_module("behavior", "movement").add(velocity)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)


def _position(velocity: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(samples, 2) mm at some times, from (T, 2) mm/s at the starts of bins."""
    at = np.arange(len(velocity)) * BIN_MS / 1000
    path = np.concatenate([np.zeros((1, 2)), np.cumsum((velocity[1:] + velocity[:-1]) / 2 * BIN_MS / 1000, axis=0)])
    return np.stack([np.interp(times, at, column) for column in path.T], axis=1)


def _write_cells(mat: h5py.File, spikes: list[np.ndarray], n_channels: int, rng: np.random.Generator) -> None:
    """Cells of spike times, units by channels: up to two sorted units and some unsorted spikes on each channel."""
    per_channel = -(-len(spikes) // n_channels)
    cells = np.zeros((per_channel + 1, n_channels), dtype=h5py.ref_dtype)
    names = np.zeros((1, n_channels), dtype=h5py.ref_dtype)
    held = mat.create_group("#refs#")
    stop = max((unit[-1] for unit in spikes if len(unit)), default=1.0)
    for channel in range(n_channels):
        for unit in range(per_channel + 1):
            number = (unit - 1) * n_channels + channel
            times = np.sort(rng.uniform(0, stop, round(2 * stop))) if unit == 0 else None
            times = spikes[number] if unit and number < len(spikes) else times
            key = f"s{unit}_{channel}"
            if times is None:
                held[key] = np.zeros(2, dtype=np.uint64)
                held[key].attrs["MATLAB_empty"] = np.uint8(1)
            else:
                held[key] = CLOCK_S + times[None]
            cells[unit, channel] = held[key].ref
        held[f"n{channel}"] = np.array([[ord(letter)] for letter in f"M1 {channel + 1:03d}"], dtype=np.uint16)
        names[0, channel] = held[f"n{channel}"].ref
    for name, references in (("spikes", cells), ("chan_names", names)):
        mat.create_dataset(name, data=references, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")


def _trials(session: Session, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    n_bins = len(session.velocity) - 1
    names = ("Time", "TargetPos", "HandVel", "Condition", "Neuron")
    trials = []
    first = 0
    while first < n_bins:
        last = min(n_bins, first + round(rng.uniform(*TRIALS_S) * FLINT_BEHAVIOR_HZ))
        last = n_bins if n_bins - last < TRIALS_S[0] * FLINT_BEHAVIOR_HZ else last
        trials.append((first, last))
        first = last
    result = np.zeros(len(trials), dtype=[(name, object) for name in names])
    for trial, (first, last) in zip(result, trials, strict=True):
        times = np.arange(first, last) * BIN_MS / 1000
        velocity = session.velocity[first:last]
        trial["Time"], trial["HandVel"] = times[:, None], np.column_stack([velocity, 0 * velocity[:, 0]])
        trial["TargetPos"], trial["Condition"] = np.zeros((len(times), 3)), float(rng.integers(1, 9))
        trial["Neuron"] = _electrodes(session, rate_hz, first * BIN_MS / 1000, last * BIN_MS / 1000)
    return result


def _electrodes(session: Session, rate_hz: float, start: float, stop: float) -> np.ndarray:
    """As many as there are units or channels; what the others lack is empty."""
    n = max(len(session.spikes), session.lfp.shape[1])
    result = np.zeros(n, dtype=[("Spike", object), ("LFP", object)])
    empty = np.zeros((0, 0))
    samples = session.lfp[round(start * rate_hz) : round(stop * rate_hz)]
    for k, electrode in enumerate(result):
        spikes = session.spikes[k] if k < len(session.spikes) else np.empty(0)
        inside = spikes[np.searchsorted(spikes, start) : np.searchsorted(spikes, stop)]
        electrode["Spike"] = inside[:, None] if len(inside) else empty
        electrode["LFP"] = samples[:, k : k + 1] if k < samples.shape[1] else empty
    return result
