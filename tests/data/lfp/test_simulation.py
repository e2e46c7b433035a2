"""Tests of the simulated sessions of spikes and field potentials."""

from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat
from scipy.ndimage import gaussian_filter1d

from blend_pl.data.lfp.reading import read_sessions
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.segments import split_segments
from blend_pl.data.lfp.simulation import LFPSimulation, write_sessions
from blend_pl.data.lfp.simulation.latents import draw_rotational_latents, velocity_from_latents
from blend_pl.data.lfp.spec import LFPSpec
from blend_pl.errors import ConfigError, DataError

TINY = LFPSimulation(n_makin=1, n_flint=1, seconds=11, n_units=(6, 9), n_channels=(4, 5), rate_hz=500)
MAKIN = ["indy_20160622_01", "indy_20160624_03"]
LAGS = range(-40, 41, 16)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[CrossModalRecording]:
    root = tmp_path_factory.mktemp("simulated")
    spec = LFPSpec("default", makin=MAKIN, flint=["e1_1"])
    return read_sessions(spec, root, "simulated", LFPSimulation(n_makin=2, n_flint=1))


def train_and_test_bins(recording: CrossModalRecording) -> tuple[np.ndarray, np.ndarray]:
    segments = split_segments(recording.n_bins, 500, "random")
    held_out_starts = np.concatenate([segments.val, segments.test])
    train, test = ((starts[:, None] + np.arange(500)).reshape(-1) for starts in (segments.train, held_out_starts))
    return train, test


def ridge_weights(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = np.column_stack([x, np.ones(len(x))])
    return np.linalg.solve(x.T @ x + 1000 * np.eye(x.shape[1]), x.T @ y)


def r2(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    error = ((y - np.column_stack([x, np.ones(len(x))]) @ w) ** 2).sum(0)
    return float(np.mean(1 - error / ((y - y.mean(0)) ** 2).sum(0)))


def decoding_r2(recording: CrossModalRecording, x: np.ndarray) -> float:
    train, test = train_and_test_bins(recording)
    x = (x - x[train].mean(0)) / x[train].std(0)
    return r2(x[test], recording.behavior[test], ridge_weights(x[train], recording.behavior[train]))


def add_temporal_context(values: np.ndarray) -> np.ndarray:
    smooth = gaussian_filter1d(values.astype(float), 4, axis=0)
    return np.concatenate([np.roll(smooth, lag, axis=0) for lag in LAGS], axis=1)


def test_spikes_decode_velocity_better_than_field_potentials(recordings: list[CrossModalRecording]) -> None:
    for recording in recordings:
        spikes = decoding_r2(recording, add_temporal_context(recording.spikes))
        lfp, lfp_with_context = (
            decoding_r2(recording, recording.lfp),
            decoding_r2(recording, add_temporal_context(recording.lfp)),
        )
        assert spikes > 0.8
        assert 0.2 < lfp < 0.55
        assert lfp + 0.15 < lfp_with_context < spikes - 0.08


def test_decoder_transfers_to_another_day_but_not_to_another_animal(recordings: list[CrossModalRecording]) -> None:
    first_day, second_day, other_animal = recordings
    n = min(r.lfp.shape[1] for r in recordings)
    lfp = [r.lfp[:, :n] / r.lfp[:, :n].std(0) for r in recordings]
    decoder = ridge_weights(lfp[1], second_day.behavior)
    assert r2(lfp[0], first_day.behavior, decoder) > 0.6 * r2(lfp[1], second_day.behavior, decoder)
    assert r2(lfp[2], other_animal.behavior, decoder) < 0.05


def test_sessions_differ_in_units_and_channels(recordings: list[CrossModalRecording]) -> None:
    assert len({recording.spikes.shape[1] for recording in recordings}) == 3
    assert len({recording.lfp.shape[1] for recording in recordings}) == 3
    for recording in recordings:
        assert 24 <= recording.spikes.shape[1] <= 70
        assert 16 <= recording.lfp.shape[1] <= 40
        rate = recording.spikes.mean() * 100
        assert 10 < rate < 40


def test_latents_are_smooth_and_velocity_is_bounded() -> None:
    latents = draw_rotational_latents(20_000, np.random.default_rng(0))
    np.testing.assert_allclose(latents.std(0), 1, rtol=1e-6)
    assert np.diff(latents, axis=0).std(0).max() < 0.2
    speed = np.abs(velocity_from_latents(latents))
    assert speed.max() <= 120
    assert speed.mean() > 20


def test_files_have_the_published_layouts(tmp_path: Path) -> None:
    write_sessions(TINY, tmp_path / "set")
    names = {path.name for path in (tmp_path / "set").iterdir()}
    assert names == {"indy_20160622_01.mat", "indy_20160622_01.nwb", "Flint_2012_e1.mat", "simulation.json"}
    with h5py.File(tmp_path / "set/indy_20160622_01.mat") as mat:
        k = mat["t"].shape[1]
        assert mat["cursor_pos"].shape == mat["target_pos"].shape == (2, k)
        assert mat["finger_pos"].shape == (3, k)
        cells = mat["spikes"]
        assert cells.dtype == h5py.ref_dtype
        assert cells.shape[1] == mat["chan_names"].shape[1]
        assert mat[cells[0, 0]].shape[0] == 1
        letters = mat[mat["chan_names"][0, 0]][()].reshape(-1)
        assert "".join(map(chr, letters)) == "M1 001"
    with h5py.File(tmp_path / "set/indy_20160622_01.nwb") as nwb:
        broadband = nwb["acquisition/timeseries/broadband"]
        assert broadband["data"].dtype == np.int16
        assert np.abs(broadband["data"][()]).max() < 32767
        assert len(broadband["data"]) == len(broadband["timestamps"])
    flint = loadmat(tmp_path / "set/Flint_2012_e1.mat", struct_as_record=False)["Subject"]
    trial = flint.ravel()[0].Trial.ravel()[0]
    assert set(trial._fieldnames) == {"Time", "TargetPos", "HandVel", "Condition", "Neuron"}
    assert trial.HandVel.shape == (len(trial.Time), 3)
    assert {electrode.LFP.size > 0 for electrode in trial.Neuron.ravel()} == {True, False}


def test_sessions_depend_on_the_parameters_only(tmp_path: Path) -> None:
    spec = LFPSpec("tiny", makin=MAKIN[:1])
    session, equal_session, other_session = (
        read_sessions(spec, tmp_path / str(k), "simulated", simulation)[0]
        for k, simulation in enumerate([TINY, TINY, replace(TINY, seed=1)])
    )
    assert np.array_equal(session.spikes, equal_session.spikes)
    assert np.array_equal(session.lfp, equal_session.lfp)
    assert not np.array_equal(session.behavior, other_session.behavior)


def test_concurrent_processes_write_one_set(tmp_path: Path) -> None:
    with get_context("fork").Pool(3) as pool:
        pool.starmap(write_sessions, [(TINY, tmp_path / "set")] * 3)
    write_sessions(TINY, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_invalid_folders_and_parameters_raise(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="contains something other than these sessions"):
        write_sessions(TINY, tmp_path)
    for settings, message in [
        ({"n_makin": 9}, "n_makin is 9; it must be between 0 and 5"),
        ({"n_makin": 0, "n_flint": 0}, "there are no sessions"),
        ({"seconds": 1.0}, "seconds is 1.0; it must be at least 10"),
        ({"n_units": (5, 2)}, r"n_units is \[5, 2\]"),
        ({"day_change": 2.0}, "day_change is 2.0; it must be a fraction"),
        ({"rate_hz": 10.0}, "rate_hz is 10.0"),
        ({"mean_rate_hz": 0.0}, "mean_rate_hz is 0.0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            replace(TINY, **settings)
