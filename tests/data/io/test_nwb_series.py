"""Tests of timestamps of time series that are rounded to float32."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from blend_pl.data.io.nwb_series import read_time_series
from blend_pl.errors import DataError


def write_series(path: Path, timestamps: np.ndarray) -> h5py.File:
    file = h5py.File(path, "w")
    series = file.create_group("acquisition/speed")
    series["data"], series["timestamps"] = np.sin(np.arange(len(timestamps)) / 10), timestamps
    return file


@pytest.mark.parametrize("restored", [True, False])
@pytest.mark.parametrize("rate_hz", [80.0, 100.0, 240.0])
def test_timestamps_of_coarse_resolution_raise(tmp_path: Path, rate_hz: float, restored: bool) -> None:
    times = (50_000 + np.arange(500) / rate_hz).astype(np.float32)
    with write_series(tmp_path / "a.h5", times.astype(np.float64) if restored else times) as file:
        message = r"speed in .* are float32, which resolves 3\.9 ms at 5000\d(\.\d+)? s, too coarse for samples every"
        with pytest.raises(DataError, match=message):
            read_time_series(file, "speed")


@pytest.mark.parametrize(
    ("start", "rate_hz", "dtype"),
    [(50_000.0, 100.0, np.float64), (50_000.0, 30.0, np.float32), (1000.0, 1000.0, np.float32)],
)
def test_timestamps_of_sufficient_resolution_are_read(
    tmp_path: Path, start: float, rate_hz: float, dtype: type
) -> None:
    times = (start + np.arange(500) / rate_hz).astype(dtype)
    with write_series(tmp_path / "a.h5", times) as file:
        np.testing.assert_array_equal(read_time_series(file, "speed").timestamps, times.astype(np.float64))
