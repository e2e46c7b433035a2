"""Tests of the reader of O'Doherty et al. (2017)."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.lfp_files import tones, unit_times, write_makin

from blend_pl.data.lfp.makin import read_makin
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.errors import DataError

SESSION = "indy_20160407_02"


def read(folder: Path, session: str = SESSION, min_rate_hz: float = 1.0, unsorted: bool = False) -> CrossModalRecording:
    return read_makin(session, folder / f"{session}.mat", folder / f"{session}.nwb", min_rate_hz, unsorted)


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"rate": 24414.0625, "chunks": (333, 3), "compression": "gzip"},
    {"n_channels": 192, "n_units": 100, "rate": 1000.0, "chunks": (9999, 1)},
    {"rate": 30_000.0, "chunks": True, "compression": "lzf"},
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_recording_equals_the_content_of_the_files(tmp_path: Path, layout: dict[str, Any]) -> None:
    written = write_makin(tmp_path, **layout)
    recording = read(tmp_path)
    n_channels, n_units = layout.get("n_channels", 4), layout.get("n_units", 3)
    assert (recording.name, recording.subject, recording.bin_ms) == (SESSION, "I", 10)
    assert recording.n_bins == 3999
    centres = 100 + (np.arange(3999) + 0.5) / 100
    inside = slice(1000, 3000)
    np.testing.assert_allclose(recording.lfp[inside], 1e-4 * tones(centres, n_channels)[inside], atol=4e-6)
    expected = np.stack([np.interp(centres, written["times"], v) for v in written["velocity"].T], axis=1)
    np.testing.assert_allclose(recording.behavior, expected, atol=0.05)
    assert recording.unit_id[:3] == ("c1/1", "c2/1", "c3/1")
    assert recording.spikes.shape == (3999, n_units)
    for column, times in enumerate(unit_times(n_units, 100.0, 139.99)):
        assert np.array_equal(np.flatnonzero(recording.spikes[:, column]), np.floor((times - 100) * 100 + 1e-6))
    assert (recording.lfp.dtype, recording.spikes.dtype, recording.behavior.dtype) == (np.float32, np.uint8, np.float32)
    assert len(recording.channel_id) == n_channels


def test_unsorted_spikes_are_optional(tmp_path: Path) -> None:
    write_makin(tmp_path)
    recording = read(tmp_path, unsorted=True)
    assert recording.unit_id[:4] == ("c1/0", "c2/0", "c3/0", "c4/0")
    assert recording.spikes[:, 0].max() == 200


def test_recording_has_the_time_common_to_both_files(tmp_path: Path) -> None:
    write_makin(tmp_path, broadband_start=104.0)
    recording = read(tmp_path)
    assert recording.n_bins == pytest.approx(3600, abs=1)
    spike_times = unit_times(1, 100.0, 140.0)[0]
    assert np.array_equal(
        np.flatnonzero(recording.spikes[:, 0])[:3], np.floor((spike_times[spike_times > 104][:3] - 104) * 100 + 1e-6)
    )


def test_session_without_units_has_no_spikes(tmp_path: Path) -> None:
    write_makin(tmp_path, n_units=0)
    assert read(tmp_path).spikes.shape == (3999, 0)


def test_gaps_of_behavior_are_missing(tmp_path: Path) -> None:
    write_makin(tmp_path)
    with h5py.File(tmp_path / f"{SESSION}.mat", "r+") as mat:
        mat["cursor_pos"][:, 1000:1500] = np.nan
    missing = np.isnan(read(tmp_path).behavior).all(1)
    assert missing[405:595].all()
    assert not missing[:395].any()
    assert not missing[605:].any()


def test_unusable_files_raise(tmp_path: Path) -> None:
    def read_after(change: Any, suffix: str = "mat", **layout: Any) -> CrossModalRecording:
        write_makin(tmp_path, seconds=10, **layout)
        with h5py.File(tmp_path / f"{SESSION}.{suffix}", "r+") as file:
            change(file)
        return read(tmp_path)

    def no_change(_: h5py.File) -> None:
        return None

    def delete(*names: str) -> Any:
        def change(file: h5py.File) -> None:
            for name in names:
                del file[name]

        return change

    def assign(name: str, values: Any, indices: Any = ...) -> Any:
        def change(file: h5py.File) -> None:
            file[name][indices] = values

        return change

    def other_session(file: h5py.File) -> None:
        file["identifier"] = "indy_20160411_01 of the same animal"

    broadband = "acquisition/timeseries/broadband"
    cases: list[tuple[str, Any, str, dict[str, Any]]] = [
        (r"mat has no cursor_pos; .*download it again", delete("cursor_pos"), "mat", {}),
        (r"mat has no spikes;", delete("spikes"), "mat", {}),
        (r"nwb has no acquisition/timeseries/broadband/timestamps", delete(f"{broadband}/timestamps"), "nwb", {}),
        (r"is of indy_20160411_01, not of indy_20160407_02", other_session, "nwb", {}),
        (r"the clocks of .*mat \(100\.0 to 110\.0 s\) .* do not agree", no_change, "mat", {"broadband_start": 5000.0}),
        (
            r"is sampled irregularly \(by .* s\)",
            assign(f"{broadband}/timestamps", 500.0, slice(30_000, None)),
            "nwb",
            {},
        ),
        (r"is sampled irregularly \(by inf s\)", assign(f"{broadband}/timestamps", np.nan, 0), "nwb", {}),
        (r"has no behavior .* only NaN", assign("cursor_pos", np.nan), "mat", {}),
        (r"the behavior of .*mat has timestamps that are out of order", assign("t", 3.0, (0, 100)), "mat", {}),
        (r"the behavior of .*mat has timestamps that are not finite", assign("t", np.nan, (0, 0)), "mat", {}),
    ]
    for message, change, suffix, layout in cases:
        with pytest.raises(DataError, match=message) as error:
            read_after(change, suffix, **layout)
        assert "\n" not in str(error.value)


def test_session_of_inactive_units_raises(tmp_path: Path) -> None:
    write_makin(tmp_path)
    with pytest.raises(DataError, match=r"has 3 units, none above 9 Hz; lower data\.spec\.min_rate_hz"):
        read(tmp_path, min_rate_hz=9.0)


@pytest.mark.parametrize("suffix", ["mat", "nwb"])
def test_truncated_files_raise(tmp_path: Path, suffix: str) -> None:
    write_makin(tmp_path, seconds=10, chunks=(500, 4), compression="gzip")
    path = tmp_path / f"{SESSION}.{suffix}"
    file_content = path.read_bytes()
    for content in (file_content[: len(file_content) // 2], b"", b"MATLAB 5.0 MAT-file" * 50):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"cannot read .*{suffix} \(.*damaged or incomplete: fetch it again"):
            read(tmp_path)
