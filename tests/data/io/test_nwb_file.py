"""Tests of opening NWB files: files that cannot be read, and why."""

import fcntl
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.small_nwb import small_session, write_small

from blend_pl.data.io.nwb import open_nwb, read_time_series, read_units
from blend_pl.errors import DataError

SESSION = small_session(n_units=3, n_trials=4)


def read_times(path: Path) -> np.ndarray:
    with open_nwb(path) as file:
        return read_units(file).times


def test_file_open_for_writing_elsewhere_raises(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    with path.open("rb+") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another program has it open for writing; close it there") as caught:
            read_times(path)
    assert "\n" not in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_file_without_read_permission_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Unable to synchronously open file")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(DataError, match=r"small\.nwb: permission denied; correct its permissions"):
        read_times(tmp_path / "small.nwb")


def test_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it is a folder; name an NWB file"):
        read_times(tmp_path)


def test_filter_that_is_not_installed_raises_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blend_pl.data.io.nwb_filters.find_spec", lambda name: None)
    path = write_small(tmp_path / "small.nwb", SESSION)
    with h5py.File(path, "a") as file:
        series = file["processing/behavior/hand_vel"]
        del series["data"]
        series.create_dataset("data", data=SESSION.velocity, compression="gzip")
    # The number of the filter precedes its name in the header of the dataset.
    content = bytearray(path.read_bytes())
    position = content.index(b"deflate\0") - 8
    assert content[position : position + 2] == (1).to_bytes(2, "little")
    content[position : position + 2] = (32008).to_bytes(2, "little")
    path.write_bytes(content)
    np.testing.assert_array_equal(read_times(path), np.concatenate(SESSION.spikes))
    message = r"compressed with Bitshuffle, which is not installed; run pip install hdf5plugin"
    with pytest.raises(DataError, match=message) as caught, open_nwb(path) as file:
        read_time_series(file, "hand_vel")
    assert "\n" not in str(caught.value)


def test_filters_of_hdf5plugin_are_read_where_it_is_installed(tmp_path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    path = write_small(tmp_path / "small.nwb", SESSION)
    with h5py.File(path, "a") as file:
        for name in ("units/spike_times", "processing/behavior/hand_vel/data"):
            values, attributes = file[name][()], dict(file[name].attrs)
            del file[name]
            file.create_dataset(name, data=values, compression=hdf5plugin.Zstd()).attrs.update(attributes)
    h5py.h5z.unregister_filter(hdf5plugin.Zstd.filter_id)
    with open_nwb(path) as file:
        np.testing.assert_array_equal(read_units(file).times, np.concatenate(SESSION.spikes))
        np.testing.assert_array_equal(read_time_series(file, "hand_vel").data, SESSION.velocity)


def test_errors_of_the_block_are_not_taken_for_damage(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    with pytest.raises(KeyError, match="mine"), open_nwb(path):
        raise KeyError("mine")
    with pytest.raises(DataError, match="damaged or incomplete"), open_nwb(path) as file:
        file["absent"]
