"""Tests of the ground truth of simulated sessions."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from scipy.signal import decimate
from scipy.special import gammaln

from blend_pl.data.nlb.reading import read_session
from blend_pl.data.nlb.simulation.files import GROUND_TRUTH_FILE, TEST_FILE, TRAIN_FILE, write_session
from blend_pl.data.nlb.simulation.ground_truth import read_rates, read_test_targets
from blend_pl.data.nlb.simulation.parameters import NLBSimulation
from blend_pl.data.nlb.spec import BehaviorSpec, PsthSpec, SessionFiles, SessionSpec, WindowSpec
from blend_pl.errors import ConfigError, DataError

SESSION = NLBSimulation(n_train=60, n_val=60, n_test=60)
N_HELDIN, N_UNITS = 45, 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "session"
    write_session(SESSION, folder)
    return folder


@pytest.fixture(scope="module")
def truth(folder):
    return folder / GROUND_TRUTH_FILE


def onsets_ms(folder, split):
    with h5py.File(folder / TRAIN_FILE) as file:
        table = file["intervals/trials"]
        rows = np.flatnonzero(table["split"].asstr()[()] == split)
        return rows, np.round(1000 * table["move_onset_time"][()][rows])


def window_start(onset_ms, bin_ms):
    return np.ceil((onset_ms - 250) / bin_ms).astype(int) * bin_ms


def histogram(folder, start_ms, n_bins, bin_ms, name=TRAIN_FILE):
    """Returns counts (trials, bins, units), held-in units first, of the spike times in the file."""
    with h5py.File(folder / name) as file:
        table = file["units"]
        microseconds = np.round(1e6 * table["spike_times"][()]).astype(np.int64)
        spikes = np.split(microseconds, table["spike_times_index"][:-1].astype(int))
        order = np.argsort(table["heldout"][()], kind="stable")
    counts = np.empty((len(start_ms), n_bins, len(order)))
    for trial, start in enumerate(start_ms):
        edges = 1000 * (start + bin_ms * np.arange(n_bins + 1))
        for column, unit in enumerate(order):
            inner = spikes[unit][(spikes[unit] >= edges[0]) & (spikes[unit] < edges[-1])]
            counts[trial, :, column] = np.histogram(inner, edges)[0]
    return counts


def bits_per_spike(rates, counts):
    def nll(rate):
        return np.sum(rate - counts * np.log(rate) + gammaln(counts + 1))

    null = np.broadcast_to(counts.mean(axis=(0, 1)), counts.shape)
    return (nll(null) - nll(rates)) / counts.sum() / np.log(2)


@pytest.fixture(scope="module")
def validation(folder, truth):
    rows, onset = onsets_ms(folder, "val")
    counts = histogram(folder, window_start(onset, 5), 180, 5)
    return read_rates(truth, rows, 5).numpy().astype(np.float64), counts


def test_counts_are_poisson_around_the_rates(validation):
    rates, counts = validation
    assert counts.sum() == pytest.approx(rates.sum(), rel=0.02)
    assert np.mean((counts - rates) ** 2 / rates) == pytest.approx(1, abs=0.03)
    assert counts[:, :140].mean() / 0.005 == pytest.approx(SESSION.mean_rate_hz, rel=0.05)


def test_rates_are_aligned_to_the_bin(validation):
    rates, counts = validation
    inner = slice(8, 132)
    score = {shift: bits_per_spike(np.roll(rates, shift, axis=1)[:, inner], counts[:, inner]) for shift in range(-4, 5)}
    assert max(score, key=score.get) == 0
    assert score[0] > score[4] + 0.02
    assert score[0] > score[-4] + 0.02


def test_rates_match_units_and_trials(validation):
    rates, counts = validation
    per_unit = np.corrcoef(rates.mean(axis=(0, 1)), counts.mean(axis=(0, 1)))[0, 1]
    assert per_unit > 0.99
    score_of_true_rates = bits_per_spike(rates, counts)
    assert score_of_true_rates > bits_per_spike(np.roll(rates, 1, axis=0), counts) + 0.1


def test_true_rates_predict_heldout_units(validation):
    rates, counts = validation
    assert 0.35 < bits_per_spike(rates[:, :140, N_HELDIN:], counts[:, :140, N_HELDIN:]) < 0.9
    assert bits_per_spike(rates[:, 140:], counts[:, 140:]) > 0.05


@pytest.mark.parametrize("bin_ms", [10, 20, 25, 50, 100])
def test_coarse_bins_are_sums_of_fine_bins(folder, truth, bin_ms):
    rows, onset = onsets_ms(folder, "train")
    fine = read_rates(truth, rows, 5).numpy()
    coarse = read_rates(truth, rows, bin_ms).numpy()
    bins_per_sum = bin_ms // 5
    assert coarse.shape == (len(rows), 900 // bin_ms, N_UNITS)
    shifts = (window_start(onset, bin_ms) - window_start(onset, 5)) // 5
    assert set(shifts) <= set(range(bins_per_sum))
    assert len(set(shifts)) > bins_per_sum // 2
    for trial, shift in enumerate(shifts):
        n_bins = (180 - shift) // bins_per_sum
        sums = fine[trial, shift : shift + n_bins * bins_per_sum].reshape(n_bins, bins_per_sum, -1).sum(axis=1)
        np.testing.assert_allclose(coarse[trial, :n_bins], sums, rtol=1e-5)


def test_coarse_rates_match_the_spikes(folder, truth):
    rows, onset = onsets_ms(folder, "train")
    counts = histogram(folder, window_start(onset, 20), 45, 20)
    rates = read_rates(truth, rows, 20).numpy().astype(np.float64)
    assert np.mean((counts - rates) ** 2 / rates) == pytest.approx(1, abs=0.04)
    inner = slice(2, 33)
    score = [bits_per_spike(np.roll(rates, shift, axis=1)[:, inner], counts[:, inner]) for shift in (-1, 0, 1)]
    assert score[1] == max(score)


def test_rates_are_read_for_trials_in_any_order(truth, folder):
    rows, _ = onsets_ms(folder, "val")
    rates = read_rates(truth, rows, 5)
    assert rates.dtype == torch.float32
    shuffled = np.random.default_rng(0).integers(0, len(rows), 300)
    shuffled_rates = read_rates(truth, torch.from_numpy(rows[shuffled]), 5)
    torch.testing.assert_close(shuffled_rates, rates[shuffled])
    assert read_rates(truth, torch.empty(0, dtype=torch.int64), 20).shape == (0, 45, N_UNITS)


def test_rates_are_limited(tmp_path):
    fast = replace(SESSION, n_train=10, n_val=2, n_test=2, n_none=0, mean_rate_hz=40.0, max_rate_hz=80.0)
    write_session(fast, tmp_path / "fast")
    rates = read_rates(tmp_path / "fast" / GROUND_TRUTH_FILE, np.arange(14), 5) / 0.005
    assert 79.9 < rates.max() < 80.01


def test_ids_of_test_trials_follow_those_of_the_train_file(folder, truth):
    trial_id = SESSION.n_train + SESSION.n_val + SESSION.n_none + np.arange(SESSION.n_test)
    rates = read_rates(truth, trial_id, 5).numpy().astype(np.float64)
    heldin = histogram(folder, 800 * np.arange(SESSION.n_test), 140, 5, TEST_FILE)
    targets = read_test_targets(truth)
    assert targets["eval_spikes_heldout"].shape == (60, 140, 15)
    assert targets["eval_spikes_heldin_forward"].shape == (60, 40, 45)
    assert targets["eval_spikes_heldout_forward"].shape == (60, 40, 15)
    observed = np.concatenate([heldin, targets["eval_spikes_heldout"]], axis=2)
    forward = np.concatenate([targets["eval_spikes_heldin_forward"], targets["eval_spikes_heldout_forward"]], axis=2)
    counts = np.concatenate([observed, forward], axis=1)
    for subset in (np.s_[:, :140, :45], np.s_[:, :140, 45:], np.s_[:, 140:, :45], np.s_[:, 140:, 45:]):
        assert np.mean((counts[subset] - rates[subset]) ** 2 / rates[subset]) == pytest.approx(1, abs=0.06)
        assert bits_per_spike(rates[subset], counts[subset]) > 0.05
    inner = slice(8, 172)
    score = {shift: bits_per_spike(np.roll(rates, shift, axis=1)[:, inner], counts[:, inner]) for shift in range(-4, 5)}
    assert max(score, key=score.get) == 0


@pytest.mark.parametrize("bin_ms", [10, 20])
def test_coarse_test_targets_are_sums(truth, bin_ms):
    fine, coarse = read_test_targets(truth), read_test_targets(truth, bin_ms)
    for name, values in coarse.items():
        if "spikes" in name:
            bins_per_sum = fine[name].reshape(len(values), values.shape[1], -1, values.shape[2]).sum(axis=2)
            np.testing.assert_array_equal(values, bins_per_sum)
    assert coarse["eval_behavior"].shape == (60, 700 // bin_ms, 2)
    # Filters of different width agree if the velocity changes slowly compared with both.
    np.testing.assert_allclose(coarse["eval_behavior"], fine["eval_behavior"][:, :: bin_ms // 5], atol=10)


def test_behavior_of_test_trials_is_lagged_and_decimated(folder, truth):
    behavior = read_test_targets(truth)["eval_behavior"]
    speed = np.hypot(behavior[..., 0], behavior[..., 1])
    # Movement onset is 250 ms after the start of the window, and 100 ms earlier on the lagged time axis.
    assert np.median(speed[:, :28], axis=0).max() < 40
    assert np.median(speed[:, 45], axis=0) > 100
    assert (speed[:, 30:110].max(axis=1) > 100).all()
    trial_id = SESSION.n_train + SESSION.n_val + SESSION.n_none + np.arange(SESSION.n_test)
    latents = torch.log(read_rates(truth, trial_id, 5)[:, :140]).double().numpy().reshape(-1, N_UNITS)
    design = np.column_stack([latents, np.ones(len(latents))])
    target = behavior.reshape(-1, 2)
    weights = np.linalg.lstsq(design, target, rcond=None)[0]
    residual = target - design @ weights
    assert 1 - residual.var() / target.var() > 0.95


@pytest.mark.parametrize("bin_ms", [5, 20])
def test_decimated_segment_equals_decimated_recording(folder, bin_ms):
    with h5py.File(folder / TRAIN_FILE) as file:
        velocity = file["processing/behavior/hand_vel/data"][()]
    decimated_recording = decimate(velocity, bin_ms, n=500, ftype="fir", axis=0)
    decimated_segment = decimate(velocity[5000:6300], bin_ms, n=500, ftype="fir", axis=0)
    inner = slice(300 // bin_ms, 1000 // bin_ms)
    np.testing.assert_allclose(decimated_segment[inner], decimated_recording[5000 // bin_ms :][inner], atol=1e-9)


@pytest.mark.parametrize("bin_ms", [5, 20])
def test_rates_match_the_bins_of_the_reader(folder, truth, bin_ms):
    spec = SessionSpec(
        name="simulated",
        files=SessionFiles(train=TRAIN_FILE, test=TEST_FILE),
        window=WindowSpec(start_ms=-250, stop_ms=450, align="move_onset_time"),
        behavior=BehaviorSpec(series="hand_vel", lag_ms=100),
        psth=PsthSpec(condition=["trial_type", "trial_version"], smoothing_ms=70),
    )
    sessions = read_session(spec, folder / TRAIN_FILE, folder / TEST_FILE, bin_ms)
    n_observed = 700 // bin_ms
    for split, expected in (("train", SESSION.n_train), ("val", SESSION.n_val), ("test", SESSION.n_test)):
        session = sessions[split]
        assert session.spikes.shape == (expected, 900 // bin_ms, N_UNITS)
        assert session.n_heldin == N_HELDIN
        units = slice(0, N_HELDIN) if split == "test" else slice(0, N_UNITS)
        rates = read_rates(truth, session.trial_id, bin_ms).double().numpy()[:, :n_observed, units]
        counts = session.spikes.double().numpy()[:, :n_observed, units]
        assert np.mean((counts - rates) ** 2 / rates) == pytest.approx(1, abs=0.06)
        inner = slice(2, n_observed - 2)
        score = [bits_per_spike(np.roll(rates, shift, axis=1)[:, inner], counts[:, inner]) for shift in (-1, 0, 1)]
        assert score[1] == max(score)
    assert len(sessions["val"].psth) == SESSION.n_conditions
    assert sessions["train"].behavior[:, :n_observed].isfinite().all()


@pytest.mark.parametrize("bin_ms", [0, -5, 1, 7, 15, 200])
def test_unsupported_bin_width_raises(truth, bin_ms):
    with pytest.raises(ConfigError, match=f"bins of {bin_ms} ms"):
        read_rates(truth, np.array([0]), bin_ms)
    with pytest.raises(ConfigError, match=f"bins of {bin_ms} ms"):
        read_test_targets(truth, bin_ms)


@pytest.mark.parametrize("trial", [-1, 183, 10_000])
def test_unknown_trial_raises(truth, trial):
    with pytest.raises(DataError, match=f"no trial {trial}"):
        read_rates(truth, np.array([0, trial]), 5)


def test_trial_without_onset_raises(folder, truth):
    rows, onset = onsets_ms(folder, "none")
    assert np.isnan(onset).all()
    with pytest.raises(DataError, match=f"trial {rows[0]} .*no movement onset"):
        read_rates(truth, rows, 5)


@pytest.mark.parametrize("damage", ["missing", "truncated", "not hdf5"])
def test_unreadable_file_raises(truth, tmp_path, damage):
    path = tmp_path / "ground_truth.h5"
    if damage == "truncated":
        path.write_bytes(truth.read_bytes()[:5000])
    elif damage == "not hdf5":
        path.write_text("nothing")
    with pytest.raises(DataError, match=r"ground_truth\.h5") as error:
        read_rates(path, np.array([0]), 5)
    assert "\n" not in str(error.value)
