"""Writers of simulated sessions in each layout."""

from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

from blend_pl.data.io.nwb_writer import (
    TableColumn,
    add_group,
    add_table,
    add_time_series,
    create_nwb,
    set_neurodata_type,
)
from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.data.lfp.simulation.session import SimulatedSession

BEHAVIOR_HZ = 250
FLINT_BEHAVIOR_HZ = 100
CLOCK_OFFSET_S, BROADBAND_LEAD_S = 1288.0, 4.0
"""Start of behavior on the clock of a session, and lead of the broadband recording before it."""

VOLTS_PER_COUNT = 2.5e-7
"""Resolution of the stored broadband, V per count."""

TRIAL_DURATION_RANGE_S = (2.0, 5.0)
"""Minimum and maximum duration of a trial in the Flint layout."""


def write_makin(session: SimulatedSession, rate_hz: float, name: str, folder: Path, rng: np.random.Generator) -> None:
    """Writes `NAME.mat` in MATLAB 7.3 format, with sorted units and unsorted spikes, and the broadband `NAME.nwb`."""
    times = np.arange(round((len(session.velocity) - 1) * BIN_MS / 1000 * BEHAVIOR_HZ) + 1) / BEHAVIOR_HZ
    position = _integrate_velocity(session.velocity, times)
    n_channels = session.lfp.shape[1]
    with h5py.File(folder / f"{name}.mat", "w", userblock_size=512) as mat:
        mat["t"] = CLOCK_OFFSET_S + times[None]
        mat["cursor_pos"] = mat["target_pos"] = position.T
        mat["finger_pos"] = np.concatenate([position * 0, position / -10], axis=1).T[1:]
        _write_cells(mat, session.spikes, n_channels, rng)
    n_lead_samples = round(BROADBAND_LEAD_S * rate_hz)
    data = np.concatenate([session.lfp[n_lead_samples:0:-1], session.lfp]) * (1e-6 / VOLTS_PER_COUNT)
    with h5py.File(folder / f"{name}.nwb", "w") as nwb:
        nwb["nwb_version"], nwb["identifier"] = "NWB-1.0.6", name
        series = nwb.create_group("acquisition/timeseries/broadband")
        dataset = series.create_dataset("data", data=np.clip(data.round(), -32768, 32767).astype(np.int16), chunks=True)
        dataset.attrs["conversion"], dataset.attrs["unit"] = VOLTS_PER_COUNT, "volt"
        series["timestamps"] = CLOCK_OFFSET_S + (np.arange(len(data)) - n_lead_samples) / rate_hz
        series["electrode_names"] = [f"M1 {k + 1:03d}".encode() for k in range(n_channels)]
        nwb["general/extracellular_ephys/electrode_map"] = np.zeros((n_channels, 3))


def write_flint(sessions: list[SimulatedSession], rate_hz: float, path: Path, rng: np.random.Generator) -> None:
    """Writes one `.mat` with one Subject per session, divided into contiguous trials."""
    subjects = np.zeros(len(sessions), dtype=[("Trial", object)])
    for subject, session in zip(subjects, sessions, strict=True):
        subject["Trial"] = _trial_structs(session, rate_hz, rng)
    # MATLAB 5 format keeps the single precision of the LFP.
    savemat(path, {"Subject": subjects})


def write_lfp_nwb(session: SimulatedSession, rate_hz: float, subject: str, path: Path) -> None:
    """Writes an NWB 2 file with an ElectricalSeries `lfp`, Units, and a TimeSeries `hand_vel`."""
    with create_nwb(path, path.stem, "a simulated session", subject, "simulated") as file:
        electrodes = _add_electrodes(file, session.lfp.shape[1])
        ecephys = add_group(file["processing"], "ecephys", "ProcessingModule", description="field potentials")
        lfp = add_time_series(
            add_group(ecephys, "LFP", "LFP"),
            "lfp",
            session.lfp,
            "volts",
            rate_hz,
            neurodata_type="ElectricalSeries",
            conversion=1e-6,
        )
        lfp["electrodes"] = np.arange(session.lfp.shape[1])
        set_neurodata_type(lfp["electrodes"], "DynamicTableRegion", "hdmf-common")
        lfp["electrodes"].attrs.update({"description": "all", "table": electrodes.ref})
        n_spikes = np.array([len(times) for times in session.spikes])
        column = TableColumn("spike_times", "times of spikes (s)", np.concatenate(session.spikes), n_spikes)
        add_table(file, "units", "Units", "simulated units", np.arange(len(session.spikes)), [column])
        behavior = add_group(file["processing"], "behavior", "ProcessingModule", description="movement")
        add_time_series(behavior, "hand_vel", session.velocity, "mm/s", 1000.0 / BIN_MS)


def _add_electrodes(file: h5py.File, n_channels: int) -> h5py.Group:
    """Adds a device, a group of electrodes and the table of electrodes, and returns the table."""
    location = "motor cortex"
    general = file["general"]
    device = add_group(general.create_group("devices"), "array", "Device")
    ephys = general.create_group("extracellular_ephys")
    array = add_group(ephys, "array", "ElectrodeGroup", description="electrodes", location=location)
    array["device"] = h5py.SoftLink(device.name)
    columns = [
        TableColumn("location", "location of the electrode", np.full(n_channels, location)),
        TableColumn("group", "group of the electrode", np.full(n_channels, array.ref, dtype=h5py.ref_dtype)),
        TableColumn("group_name", "name of the group", np.full(n_channels, "array")),
    ]
    return add_table(ephys, "electrodes", "ElectrodesTable", "electrodes", np.arange(n_channels), columns)


def _integrate_velocity(velocity: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Integrates the velocity (T, 2), mm/s at the starts of bins, to positions (samples, 2), mm at `times`."""
    bin_times = np.arange(len(velocity)) * BIN_MS / 1000
    bin_positions = np.concatenate(
        [np.zeros((1, 2)), np.cumsum((velocity[1:] + velocity[:-1]) / 2 * BIN_MS / 1000, axis=0)]
    )
    return np.stack([np.interp(times, bin_times, column) for column in bin_positions.T], axis=1)


def _write_cells(mat: h5py.File, spikes: list[np.ndarray], n_channels: int, rng: np.random.Generator) -> None:
    """Writes the cell array of spike times, units by channels: unsorted spikes and sorted units of each channel."""
    units_per_channel = -(-len(spikes) // n_channels)
    cells = np.zeros((units_per_channel + 1, n_channels), dtype=h5py.ref_dtype)
    names = np.zeros((1, n_channels), dtype=h5py.ref_dtype)
    refs_group = mat.create_group("#refs#")
    stop = max((unit[-1] for unit in spikes if len(unit)), default=1.0)
    for channel in range(n_channels):
        for unit in range(units_per_channel + 1):
            unit_index = (unit - 1) * n_channels + channel
            times = np.sort(rng.uniform(0, stop, round(2 * stop))) if unit == 0 else None
            times = spikes[unit_index] if unit and unit_index < len(spikes) else times
            key = f"s{unit}_{channel}"
            if times is None:
                refs_group[key] = np.zeros(2, dtype=np.uint64)
                refs_group[key].attrs["MATLAB_empty"] = np.uint8(1)
            else:
                refs_group[key] = CLOCK_OFFSET_S + times[None]
            cells[unit, channel] = refs_group[key].ref
        refs_group[f"n{channel}"] = np.array([[ord(letter)] for letter in f"M1 {channel + 1:03d}"], dtype=np.uint16)
        names[0, channel] = refs_group[f"n{channel}"].ref
    for name, references in (("spikes", cells), ("chan_names", names)):
        mat.create_dataset(name, data=references, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")


def _trial_structs(session: SimulatedSession, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    n_bins = len(session.velocity) - 1
    names = ("Time", "TargetPos", "HandVel", "Condition", "Neuron")
    trials = []
    first_bin = 0
    while first_bin < n_bins:
        stop_bin = min(n_bins, first_bin + round(rng.uniform(*TRIAL_DURATION_RANGE_S) * FLINT_BEHAVIOR_HZ))
        stop_bin = n_bins if n_bins - stop_bin < TRIAL_DURATION_RANGE_S[0] * FLINT_BEHAVIOR_HZ else stop_bin
        trials.append((first_bin, stop_bin))
        first_bin = stop_bin
    result = np.zeros(len(trials), dtype=[(name, object) for name in names])
    for trial, (first_bin, stop_bin) in zip(result, trials, strict=True):
        times = np.arange(first_bin, stop_bin) * BIN_MS / 1000
        velocity = session.velocity[first_bin:stop_bin]
        trial["Time"], trial["HandVel"] = times[:, None], np.column_stack([velocity, 0 * velocity[:, 0]])
        trial["TargetPos"], trial["Condition"] = np.zeros((len(times), 3)), float(rng.integers(1, 9))
        trial["Neuron"] = _electrode_structs(session, rate_hz, first_bin * BIN_MS / 1000, stop_bin * BIN_MS / 1000)
    return result


def _electrode_structs(session: SimulatedSession, rate_hz: float, start: float, stop: float) -> np.ndarray:
    """Returns one struct per unit or channel, whichever are more, with empty fields for those without spikes or LFP."""
    n = max(len(session.spikes), session.lfp.shape[1])
    result = np.zeros(n, dtype=[("Spike", object), ("LFP", object)])
    empty = np.zeros((0, 0))
    samples = session.lfp[round(start * rate_hz) : round(stop * rate_hz)]
    for k, electrode in enumerate(result):
        spikes = session.spikes[k] if k < len(session.spikes) else np.empty(0)
        trial_spikes = spikes[np.searchsorted(spikes, start) : np.searchsorted(spikes, stop)]
        electrode["Spike"] = trial_spikes[:, None] if len(trial_spikes) else empty
        electrode["LFP"] = samples[:, k : k + 1] if k < samples.shape[1] else empty
    return result
