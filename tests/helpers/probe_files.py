"""Writer of NWB files with the field potentials of one or more probes, of any gain and with damaged channels."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.ecephys import LFP, ElectricalSeries
from pynwb.file import Subject
from scipy.signal import butter, sosfiltfilt

RATE = 1000.0
SECONDS = 24.0


def potentials(n_channels: int, seed: int = 0, seconds: float = SECONDS) -> np.ndarray:
    """Returns (samples, C) field potentials in V: a common rhythm and independent slow noise of 20 uV."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    noise = sosfiltfilt(
        butter(2, [1, 30], "bandpass", fs=RATE, output="sos"), rng.normal(size=(len(times), n_channels)), 0
    )
    return 1e-6 * (100 * np.sin(2 * np.pi * 8 * times)[:, None] + 20 * noise / noise.std())


def right_lfp(volts: np.ndarray, n_bins: int) -> np.ndarray:
    """Returns (T, C): the potentials at the centers of bins minus the average of the channels, without any filter."""
    centers = (np.arange(n_bins) + 0.5) / 100
    times = np.arange(len(volts)) / RATE
    binned = np.stack([np.interp(centers, times, channel) for channel in volts.T], axis=1)
    binned -= binned.mean(0)
    difference: np.ndarray = binned - binned.mean(1, keepdims=True)
    return difference


def write_probes(
    path: Path,
    series: Mapping[str, Mapping[str, Any]],
    electrode_columns: Mapping[str, list[Any]] | None = None,
    electrode_ids: list[int] | None = None,
    unit_columns: Mapping[str, list[Any]] | None = None,
    subject: str | None = "R1",
    behavior: TimeSeries | None = None,
    n_electrodes: int = 12,
) -> None:
    """Writes series of probes, which have as many electrodes as channels, six units and a velocity `hand_vel`.

    Args:
        path: the file.
        series: arguments of each ElectricalSeries by its name; `electrodes` are rows, 0, 1 ... for the first.
        electrode_columns: values of further columns of the electrodes table.
        electrode_ids: ids of the electrodes.
        unit_columns: values of columns of the units table.
        subject: subject id.
        behavior: replaces the velocity.
        n_electrodes: rows of the electrodes table.
    """
    file = NWBFile("a session", str(path), datetime(2026, 1, 1, tzinfo=UTC))
    if subject is not None:
        file.subject = Subject(subject_id=subject)
    group = file.create_electrode_group("shank", "a shank", "M1", file.create_device("probe"))
    for row in range(n_electrodes):
        file.add_electrode(group=group, location="M1", id=None if electrode_ids is None else electrode_ids[row])
    for name, values in (electrode_columns or {}).items():
        file.add_electrode_column(name, name, data=values)
    box, first = LFP(name="LFP"), 0
    for name, arguments in series.items():
        n_channels = np.shape(arguments["data"])[-1]
        rows = arguments.get("electrodes", list(range(first, first + n_channels)))
        first += n_channels
        clock = {} if "timestamps" in arguments else {"rate": RATE, "starting_time": 0.0}
        region = file.create_electrode_table_region(rows, name)
        box.add_electrical_series(ElectricalSeries(name=name, **{**clock, **arguments, "electrodes": region}))
    file.create_processing_module("ecephys", "potentials").add(box)
    times = np.arange(round(SECONDS * 100)) / 100
    velocity = np.stack([np.cos(times), np.sin(2 * times)], axis=1)
    file.create_processing_module("behavior", "behavior").add(
        behavior or TimeSeries(name="hand_vel", data=velocity, unit="m/s", timestamps=times)
    )
    for name in unit_columns or {}:
        file.add_unit_column(name, name)
    for unit in range(6):
        columns = {name: values[unit] for name, values in (unit_columns or {}).items()}
        file.add_unit(spike_times=np.arange(0.003 + 0.001 * unit, SECONDS, 0.2), **columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
