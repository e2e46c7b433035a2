"""Writers of sessions with known waveforms in the layouts of Makin, Flint and NWB, independent of the package."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.file import Subject
from scipy.io import savemat

OMEGA = 2 * np.pi


def tones(times: np.ndarray, n_channels: int) -> np.ndarray:
    """Returns (samples, C) sines between 3 and 12 Hz, in pairs of opposite sign, so that their mean is 0."""
    hertz = 3 + 9 * (np.arange(n_channels) // 2) / n_channels
    sign = np.where(np.arange(n_channels) % 2, -1.0, 1.0)
    return sign * np.sin(OMEGA * hertz * times[:, None])


def unit_times(n_units: int, start: float, stop: float, rate: float = 5.0) -> list[np.ndarray]:
    """Returns equally spaced spike times; those of unit k are k ms later than those of unit 0."""
    return [np.arange(start + 0.003 + 0.001 * k, stop, 1 / rate) for k in range(n_units)]


def write_makin(
    folder: Path,
    session: str = "indy_20160407_02",
    seconds: float = 40.0,
    rate: float = 2000.0,
    n_channels: int = 4,
    n_units: int = 3,
    chunks: Any = None,
    compression: str | None = None,
    start: float = 100.0,
    broadband_start: float = 90.0,
) -> dict[str, np.ndarray]:
    """Writes both files; sorted units are on the first channels, unsorted spikes on all, other cells are empty.

    The broadband starts and ends at other times than the behavior, and has an offset, line noise and a fast tone.

    Returns:
        Times of the behavior, s, and its velocity (k, 2), mm/s.
    """
    folder.mkdir(parents=True, exist_ok=True)
    times = start + np.arange(int(seconds * 250)) / 250
    position = np.stack([10 * np.sin(OMEGA * 0.5 * times), 20 * np.cos(OMEGA * 0.25 * times)])
    with h5py.File(folder / f"{session}.mat", "w") as mat:
        mat["t"], mat["cursor_pos"] = times[None], position
        cells = mat.create_dataset("spikes", (5, n_channels), dtype=h5py.ref_dtype)
        units = unit_times(n_units, start, start + seconds)
        for unit in range(5):
            for channel in range(n_channels):
                name = f"#refs#/{unit}x{channel}"
                if unit == 0:
                    mat[name] = np.array([[start + 1.0, start + 2.0] * 200])
                elif unit == 1 and channel < n_units:
                    mat[name] = units[channel][None]
                else:
                    mat[name] = np.zeros(2, dtype=np.uint64)
                    mat[name].attrs["MATLAB_empty"] = np.uint8(1)
                cells[unit, channel] = mat[name].ref
    samples = broadband_start + np.arange(int((seconds + 12) * rate)) / rate
    signal = 1e-4 * tones(samples, n_channels) + 2e-3
    signal += 1e-4 * np.sin(OMEGA * 60 * samples)[:, None] * np.linspace(0.5, 2, n_channels)
    signal += 1e-4 * np.sin(OMEGA * 0.35 * rate * samples)[:, None] * np.linspace(0.5, 2, n_channels)
    with h5py.File(folder / f"{session}.nwb", "w") as nwb:
        group = nwb.create_group("acquisition/timeseries/broadband")
        data = (signal / 1e-7).round().astype(np.int16)
        group.create_dataset("data", data=data, chunks=chunks, compression=compression).attrs["conversion"] = 1e-7
        group["timestamps"] = samples[:, None]
    velocity = np.stack(
        [10 * OMEGA * 0.5 * np.cos(OMEGA * 0.5 * times), -20 * OMEGA * 0.25 * np.sin(OMEGA * 0.25 * times)], axis=1
    )
    return {"times": times, "velocity": velocity}


def flint_trials(
    spans: Sequence[tuple[float, float]], n: int = 4, rate: float = 2000.0, missing: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """Returns trials of `n` electrodes; those in `missing` have no waveform and no spikes."""
    trials = []
    for start, stop in spans:
        times = start + np.arange(round((stop - start) * 100)) / 100
        samples = start + np.arange(round((stop - start) * rate)) / rate
        waves = 50 * tones(samples, n) + 300 * np.sin(OMEGA * 400 * samples)[:, None] * np.arange(n)
        spikes = unit_times(n, 0.0, stop)
        trials.append(
            {
                "Time": times[:, None],
                "HandVel": np.stack([np.sin(times), np.cos(times), 0 * times], axis=1),
                "Condition": 3.0,
                "TargetPos": np.zeros((len(times), 3)),
                "Neuron": [
                    {
                        "Spike": np.zeros((0, 0)) if k in missing else spikes[k][spikes[k] >= start][:, None],
                        "LFP": np.zeros((0, 0)) if k in missing else waves[:, k : k + 1],
                    }
                    for k in range(n)
                ],
            }
        )
    return trials


EMPTY_TRIAL = {name: np.zeros((0, 0)) for name in ("Time", "HandVel", "Condition", "TargetPos")} | {"Neuron": []}


def write_flint_v5(path: Path, subjects: Sequence[Sequence[dict[str, Any]]], compress: bool = True) -> None:
    """Writes a file in the format of MATLAB's `save -v7`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"Subject": _structs([{"Trial": trials} for trials in subjects])}, do_compression=compress)


def write_flint_v73(path: Path, subjects: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Writes a file in the format of MATLAB's `save -v7.3`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        _hdf5_structs(file, file, "Subject", [{"Trial": list(trials)} for trials in subjects])


def write_lfp_nwb(
    path: Path,
    lfp_rate: float = 1250.0,
    behavior_rate: float = 90.0,
    n_channels: int = 4,
    n_units: int = 3,
    timestamps: bool = False,
    seconds: float = 40.0,
    behavior_start: float = 2.0,
    subject: str | None = "M7",
    velocity: str = "vel",
) -> None:
    """Writes an NWB file with an ElectricalSeries `potentials`, a position `pos`, a velocity, and units if any."""
    file = NWBFile("a session", path.stem, datetime(2026, 1, 1, tzinfo=UTC))
    if subject:
        file.subject = Subject(subject_id=subject)
    group = file.create_electrode_group("g", "g", "M1", file.create_device("d"))
    for _ in range(n_channels + 1):
        file.add_electrode(group=group, location="M1")
    region = file.create_electrode_table_region(list(range(1, n_channels + 1)), "all but the first")
    samples = np.arange(int(seconds * lfp_rate)) / lfp_rate
    clock: dict[str, Any] = {"timestamps": samples} if timestamps else {"starting_time": 0.0, "rate": lfp_rate}
    file.add_acquisition(
        ElectricalSeries(
            name="potentials", data=tones(samples, n_channels) * 7, electrodes=region, conversion=1e-6, **clock
        )
    )
    for times in unit_times(n_units, 0.0, seconds):
        file.add_unit(spike_times=times)
    times = behavior_start + np.arange(int((seconds - behavior_start) * behavior_rate)) / behavior_rate
    file.add_acquisition(
        TimeSeries(name="pos", data=np.stack([np.sin(times), times + np.sin(times / 2)], 1), unit="m", timestamps=times)
    )
    file.add_acquisition(
        TimeSeries(
            name=velocity, data=np.stack([np.cos(times), 1 + np.cos(times / 2) / 2], 1), unit="m/s", timestamps=times
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)


def _structs(elements: Sequence[dict[str, Any]]) -> np.ndarray:
    names = list(elements[0]) if elements else ["Spike", "LFP"]
    array = np.zeros((1, len(elements)), dtype=[(name, object) for name in names])
    for k, element in enumerate(elements):
        for name, value in element.items():
            array[0, k][name] = _structs(value) if isinstance(value, list) else value
    return array


def _hdf5_structs(file: h5py.File, parent: h5py.Group, name: str, elements: list[dict[str, Any]]) -> None:
    if not elements:
        parent[name] = np.zeros(2, dtype=np.uint64)
        parent[name].attrs["MATLAB_empty"] = np.uint8(1)
        return
    group = parent.create_group(name)
    group.attrs["MATLAB_class"] = np.bytes_("struct")
    for field in elements[0]:
        if len(elements) == 1:
            _hdf5_value(file, group, field, elements[0][field])
            continue
        references = group.create_dataset(field, (len(elements), 1), dtype=h5py.ref_dtype)
        for k, element in enumerate(elements):
            referenced = f"#refs#/{len(file.require_group('#refs#'))}"
            _hdf5_value(file, file, referenced, element[field])
            references[k, 0] = file[referenced].ref


def _hdf5_value(file: h5py.File, parent: h5py.Group, name: str, value: Any) -> None:
    if isinstance(value, list):
        _hdf5_structs(file, parent, name, value)
    elif np.size(value):
        parent[name] = np.atleast_2d(value).T
        parent[name].attrs["MATLAB_class"] = np.bytes_("double")
    else:
        parent[name] = np.zeros(2, dtype=np.uint64)
        parent[name].attrs["MATLAB_class"] = np.bytes_("double")
        parent[name].attrs["MATLAB_empty"] = np.uint8(1)
