"""Tests of NWB files in Zarr."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from helpers.small_nwb import small_session
from pynwb import NWBFile, TimeSeries

from blend_pl.data.io.content_files import content_files
from blend_pl.data.io.download import find_file
from blend_pl.data.io.nwb import open_nwb, read_time_series, read_units
from blend_pl.errors import DataError

SESSION = small_session(n_units=3, n_trials=4)


def test_zarr_is_read_through_pynwb(tmp_path: Path) -> None:
    hdmf_zarr = pytest.importorskip("hdmf_zarr.nwb")
    file = NWBFile("session", "session", datetime(2024, 1, 1, tzinfo=UTC))
    file.add_acquisition(TimeSeries(name="wheel", data=SESSION.velocity, timestamps=SESSION.times, unit="m/s"))
    for times in SESSION.spikes:
        file.add_unit(spike_times=times)
    path = tmp_path / "session.nwb.zarr"
    with hdmf_zarr.NWBZarrIO(str(path), mode="w") as io:
        io.write(file)
    assert find_file("session.nwb.zarr", tmp_path) == path
    with open_nwb(path) as opened:
        np.testing.assert_array_equal(read_units(opened).times, np.concatenate(SESSION.spikes))
        np.testing.assert_array_equal(read_time_series(opened, "wheel").data, SESSION.velocity)
    with pytest.raises(DataError, match=rf"{path} has no time series 'pupil'"), open_nwb(path) as opened:
        read_time_series(opened, "pupil")
    (path / ".zgroup").write_text("{")
    (path / ".zmetadata").unlink(missing_ok=True)
    with pytest.raises(DataError, match=rf"cannot read {path} .*damaged"), open_nwb(path):
        pass


@pytest.fixture
def empty_zarr(tmp_path: Path) -> Path:
    path = tmp_path / "session.nwb.zarr"
    (path / "units").mkdir(parents=True)
    for name in (".zgroup", "units/0"):
        (path / name).write_text('{"zarr_format": 2}')
    return path


def test_missing_hdmf_zarr_raises_with_its_name(empty_zarr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdmf_zarr.nwb", None)
    monkeypatch.setitem(sys.modules, "hdmf_zarr", None)
    assert find_file("*.zarr", empty_zarr.parent) == empty_zarr
    message = r"is an NWB file in Zarr, and .*not installed; run pip install hdmf-zarr"
    with pytest.raises(DataError, match=message) as caught, open_nwb(empty_zarr):
        pass
    assert "\n" not in str(caught.value)


def test_content_of_a_zarr_folder_is_all_its_files(empty_zarr: Path) -> None:
    assert content_files(empty_zarr) == [empty_zarr / ".zgroup", empty_zarr / "units/0"]
