"""Tests of the data file that is proposed for field potentials."""

from pathlib import Path

import h5py
import pytest
from helpers.lfp_files import write_lfp_nwb

from blend_pl.data.io.contents import read_contents
from blend_pl.data.lfp.proposal import lfp_series, propose_lfp_data_file
from blend_pl.errors import DataError


def edit(path: Path, rate_hz: float, name: str = "potentials") -> None:
    with h5py.File(path, "a") as file:
        file["acquisition/potentials/starting_time"].attrs["rate"] = rate_hz
        file.move("acquisition/potentials", f"acquisition/{name}")


@pytest.mark.parametrize(
    ("rate_hz", "name", "is_lfp"),
    [(1250.0, "potentials", True), (30_000.0, "potentials", False), (30_000.0, "LFP_raw", True)],
)
def test_field_potentials_are_known_by_name_or_rate(tmp_path: Path, rate_hz: float, name: str, is_lfp: bool) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", seconds=2.5)
    edit(tmp_path / "day1.nwb", rate_hz, name)
    contents = read_contents(tmp_path / "day1.nwb")
    assert [series.path for series in lfp_series(contents)] == [f"acquisition/{name}"] * is_lfp


def test_data_file_names_series_and_sizes(tmp_path: Path) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", seconds=62.0, velocity="speed")
    data_file = propose_lfp_data_file(read_contents(tmp_path / "day1.nwb"))
    names = data_file.spec["names"]
    assert (names["lfp"], names["velocity"], names["position"]) == (None, "speed", None)
    assert data_file.arm == "lfp_single_session"
    assert data_file.arguments["held_out"] == []
    assert data_file.reasons["names"].startswith("acquisition/potentials as LFP; line_hz")
    assert data_file.sizes.startswith("3 units, 4 channels, ")


def test_files_without_field_potentials_or_behavior_raise(tmp_path: Path) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", seconds=2.5)
    with h5py.File(tmp_path / "day1.nwb", "a") as file:
        del file["acquisition/pos"], file["acquisition/vel"]
    with pytest.raises(DataError, match="has no series of velocity or position"):
        propose_lfp_data_file(read_contents(tmp_path / "day1.nwb"))
    edit(tmp_path / "day1.nwb", 30_000.0)
    with pytest.raises(DataError, match="has no ElectricalSeries of field potentials; choose a file with one"):
        propose_lfp_data_file(read_contents(tmp_path / "day1.nwb"))
