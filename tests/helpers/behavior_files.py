"""Small NWB files with units and behavior of any kind, written with pynwb."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.core import NWBContainer

SECONDS = 30.0
RATE_HZ = 100.0
TIMES = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ
VELOCITY = np.stack([np.sin(2 * np.pi * 0.7 * TIMES), np.cos(2 * np.pi * 0.4 * TIMES + 1)], axis=1)


def write_behavior(
    path: Path, series: Sequence[NWBContainer] = (), extend: Callable[[NWBFile], None] | None = None
) -> Path:
    """Writes a file with eight units at 10 Hz and the given acquisitions.

    Args:
        path: the file.
        series: its time series.
        extend: adds anything else, such as trials.
    """
    rng = np.random.default_rng(0)
    file = NWBFile("test", "test", datetime(2020, 1, 1, tzinfo=UTC))
    for _ in range(8):
        file.add_unit(spike_times=np.sort(rng.uniform(0, SECONDS, int(10 * SECONDS))))
    for item in series:
        file.add_acquisition(item)
    if extend is not None:
        extend(file)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


def velocity_series(
    name: str = "velocity", data: np.ndarray = VELOCITY, unit: str = "m/s", **fields: Any
) -> TimeSeries:
    """Returns a series at the times of `TIMES`."""
    return TimeSeries(name=name, data=data, timestamps=TIMES[: len(data)], unit=unit, **fields)
