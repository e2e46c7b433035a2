"""Writer of NWB files: pynwb reads what was written and finds no violation of the schema."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, validate

from blend_pl.data.io.nwb import open_nwb, read_time_series, read_trials, read_units
from blend_pl.data.io.nwb_writer import TableColumn, add_group, add_table, add_time_series, create_nwb
from blend_pl.data.lfp.simulation.files import write_sessions
from blend_pl.data.lfp.simulation.parameters import LFPSimulation

SPIKE_TIMES = [np.array([0.1, 0.30000000000000004]), np.empty(0), np.array([1 / 3])]
START = np.array([0.0, 0.7])
SPLIT = np.array(["train", "val"])
SUCCESS = np.array([True, False])
DATA = np.random.default_rng(0).standard_normal((50, 2))
TIMES = np.arange(50) / 1000 + 1e-9


def write_example(path: Path) -> None:
    with create_nwb(path, "example", "a session", "S", "a subject") as file:
        counts = np.array([len(times) for times in SPIKE_TIMES])
        columns = [TableColumn("spike_times", "times (s)", np.concatenate(SPIKE_TIMES), counts)]
        add_table(file, "units", "Units", "units", np.array([4, 7, 9]), columns)
        columns = [
            TableColumn("start_time", "start (s)", START),
            TableColumn("stop_time", "end (s)", START + 0.5),
            TableColumn("split", "split", SPLIT),
            TableColumn("success", "success", SUCCESS),
        ]
        add_table(file.create_group("intervals"), "trials", "TimeIntervals", "trials", np.arange(2), columns)
        module = add_group(file["processing"], "behavior", "ProcessingModule", description="movement")
        first = add_time_series(module, "hand_vel", DATA, "mm/s", TIMES)
        add_time_series(module, "hand_pos", DATA + 1, "mm", first)
        add_time_series(module, "eye_pos", DATA - 1, "deg", 250.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_example(tmp_path / "example.nwb")
    return tmp_path / "example.nwb"


def test_written_file_has_a_valid_schema(path: Path) -> None:
    assert validate(path=str(path)) == []


def test_pynwb_reads_the_written_values(path: Path) -> None:
    with NWBHDF5IO(str(path), "r") as io:
        file = io.read()
        assert (file.identifier, file.session_description, file.subject.subject_id) == ("example", "a session", "S")
        assert file.session_start_time.isoformat() == "2020-01-01T00:00:00+00:00"
        assert list(file.units.id) == [4, 7, 9]
        for unit, times in enumerate(SPIKE_TIMES):
            np.testing.assert_array_equal(file.units.get_unit_spike_times(unit), times)
        trials = file.trials.to_dataframe()
        assert list(trials) == ["start_time", "stop_time", "split", "success"]
        assert [*trials.split] == [*SPLIT]
        assert [*trials.success] == [*SUCCESS]
        np.testing.assert_array_equal(trials.start_time, START)
        behavior = file.processing["behavior"]
        for name, shift in (("hand_vel", 0), ("hand_pos", 1), ("eye_pos", -1)):
            np.testing.assert_array_equal(behavior[name].data, DATA + shift)
        assert behavior["hand_pos"].timestamps is behavior["hand_vel"].timestamps
        np.testing.assert_array_equal(behavior["hand_pos"].timestamps, TIMES)
        assert (behavior["eye_pos"].starting_time, behavior["eye_pos"].rate) == (0.0, 250.0)


def test_reader_of_the_package_reads_the_written_values(path: Path) -> None:
    with open_nwb(path) as file:
        units, trials, series = read_units(file), read_trials(file), read_time_series(file, "hand_pos")
    assert trials is not None
    for unit, times in enumerate(SPIKE_TIMES):
        np.testing.assert_array_equal(units.spike_times(unit), times)
    np.testing.assert_array_equal(trials["split"], SPLIT)
    np.testing.assert_array_equal(series.data, DATA + 1)
    np.testing.assert_array_equal(series.timestamps, TIMES)


def test_equal_content_gives_equal_files_with_unique_ids(path: Path, tmp_path: Path) -> None:
    write_example(tmp_path / "again.nwb")
    assert (tmp_path / "again.nwb").read_bytes() == path.read_bytes()
    ids: list[str] = []
    with h5py.File(path) as file:
        ids.append(file.attrs["object_id"])
        file.visititems(lambda _, node: ids.append(node.attrs["object_id"]) if "object_id" in node.attrs else None)
    assert len(ids) == len(set(ids)) > 15


def test_simulated_lfp_session_needs_no_pynwb_and_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        for package in ("pynwb", "hdmf"):
            context.setitem(sys.modules, package, None)
        write_sessions(
            LFPSimulation(n_makin=0, n_flint=0, n_nwb=1, seconds=10, n_units=(4, 4), n_channels=(3, 3)), tmp_path / "x"
        )
    (path,) = (tmp_path / "x").glob("*.nwb")
    assert validate(path=str(path)) == []
    with NWBHDF5IO(str(path), "r") as io:
        lfp = io.read().processing["ecephys"]["LFP"]["lfp"]
        assert (lfp.rate, lfp.conversion, lfp.unit) == (1000.0, 1e-6, "volts")
        assert [*lfp.electrodes.to_dataframe().group_name] == ["array"] * 3
