"""Tests of reading NWB files."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.nwb_files import write_maze
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import Position, SpatialSeries

from blend_pl.data.io.nwb import has_time_series, open_nwb, read_time_series, read_trials, read_units, require_column
from blend_pl.errors import DataError


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_maze(tmp_path_factory.mktemp("maze"), 0, 4, 2, 1, n_units=6, n_heldout=2).train


@pytest.fixture
def maze(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path))


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nested") / "nested.nwb"
    file = NWBFile("test", "test", datetime(2020, 1, 1, tzinfo=UTC))
    file.add_acquisition(TimeSeries(name="wheel", data=[1, 2, 4], unit="cm/s", starting_time=0.5, rate=100.0))
    position = Position()
    for name in ("hand", "eye"):
        series = SpatialSeries(name=name, data=np.ones((5, 2), dtype=np.float32), timestamps=np.arange(5) / 50)
        position.add_spatial_series(series)
    file.create_processing_module("behavior", "behaviour").add(position)
    file.create_processing_module("gaze", "gaze").add(TimeSeries(name="eye", data=[0.0] * 3, unit="au", rate=10.0))
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


def test_units(maze: Path) -> None:
    with NWBHDF5IO(str(maze), "r") as io:
        theirs = io.read().units.to_dataframe()
    with open_nwb(maze) as file:
        ours = read_units(file)
    np.testing.assert_array_equal(ours.id, theirs.index)
    np.testing.assert_array_equal(ours.columns["heldout"], theirs["heldout"])
    assert list(ours.columns) == ["heldout"]
    for row in range(len(ours)):
        np.testing.assert_array_equal(ours.spike_times(row), theirs["spike_times"].iloc[row])
        np.testing.assert_array_equal(ours.obs_intervals(row), theirs["obs_intervals"].iloc[row])


def test_trials(maze: Path) -> None:
    with NWBHDF5IO(str(maze), "r") as io:
        theirs = io.read().trials.to_dataframe()
    with open_nwb(maze) as file:
        ours = read_trials(file)
    assert ours is not None
    assert set(ours) == set(theirs.columns)
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name].to_numpy())
    assert ours["split"].dtype.kind == "U"


def test_series_with_timestamps(maze: Path) -> None:
    with NWBHDF5IO(str(maze), "r") as io:
        theirs = io.read().processing["behavior"]["hand_vel"]
        data, times = theirs.data[()], theirs.timestamps[()]
    with open_nwb(maze) as file:
        ours = read_time_series(file, "hand_vel")
    np.testing.assert_array_equal(ours.data, data)
    np.testing.assert_array_equal(ours.timestamps, times)
    assert ours.columns == ["x", "y"]


def test_series_with_a_rate_becomes_a_float_column(nested: Path) -> None:
    with open_nwb(nested) as file:
        series = read_time_series(file, "wheel")
        assert read_trials(file) is None
    np.testing.assert_allclose(series.timestamps, [0.5, 0.51, 0.52])
    assert series.data.tolist() == [[1.0], [2.0], [4.0]]
    assert series.data.dtype == np.float64
    assert series.columns == []


def test_nested_series_keep_their_precision(nested: Path) -> None:
    with open_nwb(nested) as file:
        assert read_time_series(file, "hand").data.dtype == np.float32
        assert read_time_series(file, "Position/eye").data.shape == (5, 2)
        assert read_time_series(file, "gaze/eye").data.shape == (3, 1)
        assert has_time_series(file, "hand")
        assert not has_time_series(file, "and")


def test_ambiguous_series_name_raises_with_all_paths(nested: Path) -> None:
    with open_nwb(nested) as file, pytest.raises(DataError, match=r"behavior/Position/eye or .*gaze/eye"):
        read_time_series(file, "eye")


def test_missing_series_raises_with_available_series(maze: Path) -> None:
    with open_nwb(maze) as file, pytest.raises(DataError, match=r"no time series 'finger_vel'.*behavior/hand_vel"):
        read_time_series(file, "finger_vel")


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 0.1, 0.1], "sample 2 at 0.1 s follows 0.1 s"),
        ([0.0, 0.2, 0.1], "out of order"),
        ([0.0, np.nan, 0.1], "not finite"),
        ([0.0, 0.1, np.inf], "not finite"),
        ([0.0, 0.1], "3 samples and 2 timestamps"),
    ],
)
def test_unusable_timestamps_raise(tmp_path: Path, times: list[float], message: str) -> None:
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["processing/wheel/data"] = np.zeros(3)
        file["processing/wheel/timestamps"] = times
        with pytest.raises(DataError, match=message):
            read_time_series(file, "wheel")


@pytest.mark.parametrize("stored", [np.float32, np.float64])
def test_timestamps_that_float32_cannot_tell_apart_raise_with_the_type(tmp_path: Path, stored: type) -> None:
    times = (18_000 + np.arange(50) / 1000).astype(np.float32)
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["processing/wheel/data"] = np.zeros(50)
        file["processing/wheel/timestamps"] = times.astype(stored)
        with pytest.raises(DataError, match="because float32 resolves 2 ms there: write timestamps as float64"):
            read_time_series(file, "wheel")


def test_series_of_images_raises(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["acquisition/frames/data"] = np.zeros((3, 4, 4))
        file["acquisition/frames/timestamps"] = np.arange(3.0)
        with pytest.raises(DataError, match=r"shape \(3, 4, 4\)"):
            read_time_series(file, "frames")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_raise(maze: Path, share: float) -> None:
    content = maze.read_bytes()
    maze.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="damaged or incomplete") as caught, open_nwb(maze) as file:
        read_units(file)
    assert "\n" not in str(caught.value)


def test_missing_files_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"), open_nwb(tmp_path / "a.nwb"):
        pass


@pytest.mark.parametrize("missing", ["units", "units/spike_times"])
def test_files_without_units_raise(maze: Path, missing: str) -> None:
    with h5py.File(maze, "a") as file:
        del file[missing]
    with open_nwb(maze) as file, pytest.raises(DataError, match="no units table with spike_times"):
        read_units(file)


def test_nan_spike_times_raise(maze: Path) -> None:
    with h5py.File(maze, "a") as file:
        file["units/spike_times"][3] = np.nan
    with open_nwb(maze) as file, pytest.raises(DataError, match="not finite"):
        read_units(file)


def test_missing_column_raises_with_available_columns() -> None:
    with pytest.raises(DataError, match=r"the table has no column 'go'; set window.align to one it has: start, stop"):
        require_column({"start": np.zeros(1), "stop": np.zeros(1)}, "go", "window.align", "the table")
