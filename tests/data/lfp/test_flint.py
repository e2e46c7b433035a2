"""Tests of the reader of Flint et al. (2012)."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.lfp_files import EMPTY_TRIAL, flint_trials, tones, unit_times, write_flint_v5, write_flint_v73

from blend_pl.data.lfp.flint import parse_flint_session, read_flint
from blend_pl.errors import DataError

SPANS = [(5.0, 8.2), (8.2, 13.0), (13.0, 20.0)]
BOTH_FORMATS = pytest.mark.parametrize("write", [write_flint_v5, write_flint_v73])
Writer = Callable[..., None]


@BOTH_FORMATS
@pytest.mark.parametrize("rate", [2000.0, 1000.0])
def test_contiguous_trials_are_filtered_together(tmp_path: Path, write: Writer, rate: float) -> None:
    path = tmp_path / "Flint_2012_e2.mat"
    trials = flint_trials(SPANS, rate=rate)
    write(path, [flint_trials(SPANS[:1]), [*trials[1:], EMPTY_TRIAL, trials[0]]])
    recording = read_flint("e2_2", path, 1.0)
    assert (recording.name, recording.subject, recording.n_bins) == ("e2_2", "C", 1500)
    centres = 5 + (np.arange(1500) + 0.5) / 100
    np.testing.assert_allclose(recording.lfp[50:-50], 50 * tones(centres, 4)[50:-50], atol=1.5)
    np.testing.assert_allclose(recording.behavior, np.stack([np.sin(centres), np.cos(centres)], 1), atol=6e-3)
    for column, times in enumerate(unit_times(4, 0.0, 20.0)):
        spike_bins = np.floor((times[times >= 5] - 5) * 100 + 1e-6)
        assert np.array_equal(np.flatnonzero(recording.spikes[:, column]), spike_bins)
    assert read_flint("e2_1", path, 1.0).n_bins == 320


@BOTH_FORMATS
def test_electrodes_without_a_waveform_are_left_out(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "Flint_2012_e1.mat"
    write(path, [flint_trials(SPANS, n=6, missing=[0, 3])])
    recording = read_flint("e1_1", path, 1.0)
    assert recording.channel_id == recording.unit_id == ("n2", "n3", "n5", "n6")
    assert recording.lfp.shape == (1500, 4)


def test_pauses_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "Flint_2012_e1.mat"
    write_flint_v5(path, [flint_trials([(0.0, 6.0), (9.0, 15.0)])])
    recording = read_flint("e1_1", path, 1.0)
    assert recording.n_bins == 1200
    np.testing.assert_allclose(recording.lfp[650:1150], 50 * tones(9 + np.arange(0.505, 5.505, 0.01), 4), atol=1.5)


def test_trials_with_separate_clocks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "Flint_2012_e1.mat"
    write_flint_v5(path, [flint_trials([(0.0, 6.0), (0.0, 4.0)])])
    recording = read_flint("e1_1", path, 1.0)
    assert recording.n_bins == 1000
    assert np.isfinite(recording.behavior).all()


def test_session_name_has_file_and_subject() -> None:
    assert parse_flint_session("e3_4") == ("Flint_2012_e3.mat", 3)
    for name in ("e1", "e1_0", "indy_20160407_02"):
        with pytest.raises(DataError, match="there is no Flint session"):
            parse_flint_session(name)


@BOTH_FORMATS
def test_unusable_files_raise(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "Flint_2012_e1.mat"
    short_waveform = flint_trials(SPANS)
    short_waveform[1]["Neuron"][2]["LFP"] = short_waveform[1]["Neuron"][2]["LFP"][:-7]
    without_velocity = flint_trials(SPANS)
    backwards = flint_trials(SPANS)
    for trial in without_velocity:
        trial["HandVel"] = trial["HandVel"] * np.nan
    backwards[0]["Time"] = backwards[0]["Time"][::-1]
    cases = [
        ([EMPTY_TRIAL, EMPTY_TRIAL], r"has no trial with Time, HandVel and LFP"),
        (short_waveform, r"e1_1 in .* has a trial with waveforms of different lengths"),
        (without_velocity, r"e1_1 in .* has no behavior .* only NaN"),
        (backwards, r"the behavior of .* has timestamps that are out of order"),
        (flint_trials(SPANS, missing=range(4)), r"has no trial with"),
    ]
    for trials, message in cases:
        write(path, [trials])
        with pytest.raises(DataError, match=message) as error:
            read_flint("e1_1", path, 1.0)
        assert "\n" not in str(error.value)
    write(path, [flint_trials(SPANS)])
    with pytest.raises(DataError, match="has 1 Subjects, so there is no session e1_2"):
        read_flint("e1_2", path, 1.0)
    with pytest.raises(DataError, match="4 units, none above 20 Hz"):
        read_flint("e1_1", path, 20.0)


@BOTH_FORMATS
def test_truncated_and_foreign_files_raise(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "Flint_2012_e1.mat"
    write(path, [flint_trials(SPANS)])
    content_of_file = path.read_bytes()
    for content in (content_of_file[: len(content_of_file) // 2], content_of_file[:200], b"", b"no MATLAB file " * 20):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"Flint_2012_e1\.mat") as error:
            read_flint("e1_1", path, 1.0)
        assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(DataError, match="there is no file"):
        read_flint("e1_1", path, 1.0)
    with h5py.File(path, "w") as file:
        file["Subject"] = 3.0
    with pytest.raises(DataError, match="has 0 Subjects"):
        read_flint("e1_1", path, 1.0)
