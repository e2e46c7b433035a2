"""Tests of soft and external links in NWB files."""

from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.small_nwb import small_session, write_small
from pynwb import NWBHDF5IO, NWBFile, TimeSeries

from blend_pl.data.io.content_files import content_files
from blend_pl.data.io.nwb import find_series, has_time_series, open_nwb, read_time_series, read_trials, read_units
from blend_pl.data.io.nwb_links import broken_links, walk_groups
from blend_pl.errors import DataError

SESSION = small_session(n_units=3, n_trials=4)


def write_linked(folder: Path) -> Path:
    """Writes a session with a velocity that is linked by pynwb from the file raw.nwb in the same folder."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    raw = NWBFile("raw", "raw", start)
    raw.add_acquisition(TimeSeries(name="wheel_vel", data=SESSION.velocity, timestamps=SESSION.times, unit="m/s"))
    with NWBHDF5IO(str(folder / "raw.nwb"), "w") as io:
        io.write(raw)
    with NWBHDF5IO(str(folder / "raw.nwb"), "r") as raw_io:
        session = NWBFile("session", "session", start)
        session.add_acquisition(raw_io.read().acquisition["wheel_vel"])
        with NWBHDF5IO(str(folder / "session.nwb"), "w", manager=raw_io.manager) as io:
            io.write(session, link_data=True)
    return folder / "session.nwb"


def test_external_links_of_pynwb_are_followed(tmp_path: Path) -> None:
    path = write_linked(tmp_path)
    with NWBHDF5IO(str(path), "r") as io:
        expected = io.read().acquisition["wheel_vel"].data[()]
    with open_nwb(path) as file:
        assert isinstance(file.get("acquisition/wheel_vel", getlink=True), h5py.ExternalLink)
        series = read_time_series(file, "wheel_vel")
    np.testing.assert_array_equal(series.data, expected)
    np.testing.assert_array_equal(series.timestamps, SESSION.times)


def test_external_links_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").mkdir()
    write_linked(tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    with open_nwb(Path("moved/session.nwb")) as file:
        np.testing.assert_array_equal(read_time_series(file, "acquisition/wheel_vel").data, SESSION.velocity)


def test_missing_linked_file_is_named(tmp_path: Path) -> None:
    path = write_linked(tmp_path)
    (tmp_path / "raw.nwb").unlink()
    with open_nwb(path) as file, pytest.raises(DataError, match=r"acquisition/wheel_vel -> .*raw\.nwb:/acquisition"):
        read_time_series(file, "wheel_vel")


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    path = write_small(tmp_path / "small.nwb", SESSION)
    with h5py.File(path, "a") as file:
        file["acquisition/alias"] = h5py.SoftLink("/processing/behavior/hand_vel")
        file["scratch/all"] = h5py.SoftLink("/processing")
        file["scratch/root"] = h5py.SoftLink("/")
        file["scratch/nowhere"] = h5py.SoftLink("/absent")
    return path


def test_a_series_under_several_names_is_one_series(linked: Path) -> None:
    with open_nwb(linked) as file:
        for name in ("hand_vel", "alias", "acquisition/alias", "behavior/hand_vel"):
            np.testing.assert_array_equal(read_time_series(file, name).data, SESSION.velocity)
        assert not has_time_series(file, "nowhere")
        assert find_series(file, "TimeSeries", None, "setting") == file["processing/behavior/hand_vel"]
        assert find_series(file, "TimeSeries", "hand_vel", "setting") == file["processing/behavior/hand_vel"]


def test_circular_links_end(linked: Path) -> None:
    with open_nwb(linked) as file:
        paths = [path for path, _ in walk_groups(file)]
        assert broken_links(file) == ["scratch/nowhere -> /absent"]
    assert len(paths) == len(set(paths))
    assert {"scratch/root", "scratch/all", "processing/behavior/hand_vel"} <= set(paths)


def test_linked_files_are_part_of_the_content(tmp_path: Path) -> None:
    path = write_linked(tmp_path)
    assert content_files(path) == [path, tmp_path / "raw.nwb"]
    assert content_files(tmp_path / "raw.nwb") == [tmp_path / "raw.nwb"]
    (tmp_path / "raw.nwb").unlink()
    assert content_files(path) == [path]
    damaged = tmp_path / "damaged.nwb"
    damaged.write_bytes(path.read_bytes()[:3000])
    assert content_files(damaged) == [damaged]


@pytest.mark.parametrize("name", ["units", "units/spike_times", "intervals/trials"])
def test_missing_linked_tables_name_the_link(tmp_path: Path, name: str) -> None:
    path = write_small(tmp_path / "a.nwb", SESSION)
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = h5py.ExternalLink("sorted/units.nwb", "/elsewhere")
    with pytest.raises(DataError, match=f"{name} -> sorted/units.nwb:/elsewhere.*put the linked file there"):  # noqa: PT012, SIM117
        with open_nwb(path) as file:
            read_trials(file, required=True)
            read_units(file)


def test_soft_links_to_themselves_are_skipped(tmp_path: Path) -> None:
    path = write_small(tmp_path / "a.nwb", SESSION)
    with h5py.File(path, "a") as file:
        file["processing/loop"] = h5py.SoftLink("/processing/loop")
    with open_nwb(path) as file:
        np.testing.assert_array_equal(read_time_series(file, "hand_vel").data, SESSION.velocity)
        assert broken_links(file) == ["processing/loop -> /processing/loop"]
