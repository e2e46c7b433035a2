"""Comparison of the reader with nlb_tools, entry by entry."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from helpers.nlb import SETS, nlb_dataset, nlb_targets
from helpers.nwb_files import Written, write_maze
from helpers.specs import MC_MAZE, MC_MAZE_SMALL

from blend_pl.data.nlb.reading import read_session, read_test_file
from blend_pl.data.nlb.recording import read_nlb_recording
from blend_pl.data.nlb.session import SessionTensors, concatenate_trials
from blend_pl.data.nlb.spec import DandiArchive, SessionSpec, WindowSpec

pytest.importorskip("nlb_tools", reason="needs the extra nlb")
from nlb_tools import make_tensors, nwb_interface

REAL_TEST_FILE = Path(__file__).parents[3] / "../shared/data/sub-Jenkins_ses-small_desc-test_ecephys.nwb"

JOINED = ["train", "val"]
"""Training splits of phase test."""


@dataclass
class Case:
    spec: SessionSpec
    files: Written
    bin_ms: int
    session: dict[str, SessionTensors]
    joined: SessionTensors
    dataset: Any

    def train_input(self, split: str | list[str]) -> dict[str, np.ndarray]:
        return make_tensors.make_train_input_tensors(
            self.dataset,
            self.spec.name,
            split,
            save_file=False,
            include_behavior=True,
            include_forward_pred=True,
        )

    def targets(self, train: str | list[str] = "train") -> dict[str, np.ndarray]:
        (targets,) = nlb_targets(self.dataset, self.spec, train).values()
        return targets


@pytest.fixture(scope="module", params=[(name, bin_ms) for name in SETS for bin_ms in (5, 20)], ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name, bin_ms = request.param
    spec, write = SETS[name]
    files = write(tmp_path_factory.mktemp(name))
    session = read_session(spec, files.train, files.test, bin_ms)
    tested = read_session(spec, files.train, files.test, bin_ms, phase="test")
    joined = concatenate_trials(tested["train"], tested["val"])
    return Case(spec, files, bin_ms, session, joined, nlb_dataset(files.train, bin_ms))


@pytest.fixture(autouse=True)
def serial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nwb_interface, "_poolmap", lambda function, items, **_: list(map(function, items)))


@pytest.mark.parametrize("split", ["train", "val", JOINED], ids=str)
def test_spikes_and_behavior_of_training_input(case: Case, split: str | list[str]) -> None:
    ours, theirs = case.joined if isinstance(split, list) else case.session[split], case.train_input(split)
    spikes = ours.spikes.numpy()
    n, t = ours.n_heldin, ours.n_observed

    np.testing.assert_array_equal(spikes[:, :t, :n], theirs["train_spikes_heldin"])
    np.testing.assert_array_equal(spikes[:, :t, n:], theirs["train_spikes_heldout"])
    np.testing.assert_array_equal(spikes[:, t:, :n], theirs["train_spikes_heldin_forward"])
    np.testing.assert_array_equal(spikes[:, t:, n:], theirs["train_spikes_heldout_forward"])
    assert_behavior(ours, theirs["train_behavior"])
    assert theirs["train_spikes_heldin"].sum() > 100
    assert ours.observed.all()
    assert (case.spec.window.jitter is None) == (not ours.jitter.any())


def assert_behavior(ours: SessionTensors, theirs: np.ndarray) -> None:
    theirs = theirs.astype(np.float32)
    if ours.n_series:
        np.testing.assert_array_equal(ours.behavior[:, : ours.n_observed], theirs)
        assert ours.behavior[:, : ours.n_observed].isfinite().all()
    else:
        everywhere = np.broadcast_to(theirs[:, None], ours.behavior.shape)
        np.testing.assert_array_equal(ours.behavior, everywhere)
        assert 0 < np.isnan(theirs).mean() < 0.5


def test_evaluation_targets(case: Case) -> None:
    train, val, theirs = case.session["train"], case.session["val"], case.targets()
    n, t = val.n_heldin, val.n_observed

    heldout = np.where(val.scoring_mask[..., None], val.spikes[:, :t, n:], np.nan)
    np.testing.assert_array_equal(heldout, theirs["eval_spikes_heldout"])
    np.testing.assert_array_equal(val.spikes[:, t:, :n], theirs["eval_spikes_heldin_forward"])
    np.testing.assert_array_equal(val.spikes[:, t:, n:], theirs["eval_spikes_heldout_forward"])
    assert (case.spec.scoring_window is None) == bool(val.scoring_mask.all())
    assert_targets_of(case, train, theirs, "train")
    assert_targets_of(case, val, theirs, "eval")
    if case.spec.psth:
        assert len(theirs["psth"]) >= 6
        np.testing.assert_allclose(val.psth, theirs["psth"], rtol=0, atol=1e-12)
        assert torch.equal(val.psth.isnan(), train.psth.isnan())
        assert torch.equal(val.psth.nan_to_num(), train.psth.nan_to_num())
        assert (case.spec.scoring_window is None) == bool(val.psth.isfinite().all())


def test_training_targets_of_phase_test(case: Case) -> None:
    assert_targets_of(case, case.joined, case.targets(JOINED), "train")


def assert_targets_of(case: Case, ours: SessionTensors, theirs: dict[str, np.ndarray], name: str) -> None:
    assert_behavior(ours, theirs[f"{name}_behavior"])
    if case.spec.decode_by:
        np.testing.assert_array_equal(ours.decode_mask, theirs[f"{name}_decode_mask"])
    else:
        assert ours.decode_mask.shape == (len(ours), 1)
        assert ours.decode_mask.all()
    if case.spec.psth:
        for condition, trials in enumerate(theirs[f"{name}_cond_idx"]):
            np.testing.assert_array_equal(np.flatnonzero(ours.condition == condition), trials)
    if case.spec.window.jitter:
        np.testing.assert_array_equal(ours.jitter, theirs[f"{name}_jitter"])
        assert len(ours.jitter.unique()) > 5


def test_binned_behavior_of_the_whole_recording(case: Case) -> None:
    assert case.spec.behavior is not None
    if case.spec.behavior.series is None:
        pytest.skip("this set has no time series")
    ours = read_nlb_recording(case.files.train, case.spec, case.bin_ms, behavior_required=True).behavior
    theirs = case.dataset.data[case.spec.behavior.series].to_numpy()
    np.testing.assert_array_equal(ours, theirs)
    assert ("maze" in case.spec.name) == bool(np.isnan(theirs).any())


def test_test_trials(case: Case) -> None:
    theirs = make_tensors.make_eval_input_tensors(
        nlb_dataset(case.files.test, case.bin_ms), case.spec.name, "test", save_file=False
    )["eval_spikes_heldin"]
    test = case.session["test"]
    n, t = test.n_heldin, test.n_observed
    np.testing.assert_array_equal(test.spikes[:, :t, :n], theirs)
    assert test.observed[:, :t, 0].all()
    assert not test.observed[:, t:].any()
    assert not test.observed[..., 1].any()
    assert not test.spikes[..., n:].any()
    assert test.behavior.isnan().all()
    assert not test.jitter.any()
    assert test.behavior.shape[-1] == case.session["train"].behavior.shape[-1]


@pytest.mark.parametrize("bin_ms", [5, 20])
def test_windows_across_gaps(tmp_path: Path, bin_ms: int) -> None:
    files = write_maze(tmp_path, 7, 18, 10, 1, n_units=12)
    with h5py.File(files.train, "a") as file:
        for row in (0, -1):
            file["intervals/trials/split"][row] = "none"
    across = {"align_field": "start_time", "align_range": (-310, 2490), "allow_overlap": True}
    dataset = nlb_dataset(files.train, bin_ms)
    theirs = make_tensors.make_eval_input_tensors(
        dataset, "mc_maze", update_params={"make_params": across}, save_file=False
    )
    train, val = dataset.trial_info.split == "train", dataset.trial_info.split == "val"
    _, psth, _ = make_tensors._make_psth(
        dataset, train, val, ~(train | val), across, ["trial_type", "trial_version"], 70
    )

    window = WindowSpec(-310, 2490, align="start_time", forward_ms=0)
    # Windows that overlap between splits are accepted in a published set only.
    spec = replace(MC_MAZE, window=window, archive=DandiArchive("000128", "0.220113.0400"))
    ours = read_session(spec, files.train, None, bin_ms)["val"]
    missing = np.isnan(theirs["eval_spikes_heldin"])
    assert 0.05 < missing.mean() < 0.5
    np.testing.assert_array_equal(ours.observed[..., 0], ~missing.any(axis=2))
    np.testing.assert_array_equal(ours.spikes[..., : ours.n_heldin], np.nan_to_num(theirs["eval_spikes_heldin"]))
    np.testing.assert_array_equal(ours.spikes[..., ours.n_heldin :], np.nan_to_num(theirs["eval_spikes_heldout"]))
    assert np.isnan(psth).any()
    np.testing.assert_allclose(ours.psth, psth, rtol=0, atol=1e-12)


@pytest.mark.skipif(not REAL_TEST_FILE.exists(), reason="the official MC_Maze_Small test file is not here")
@pytest.mark.parametrize("bin_ms", [5, 20])
def test_official_test_file(bin_ms: int) -> None:
    theirs = make_tensors.make_eval_input_tensors(
        nlb_dataset(REAL_TEST_FILE, bin_ms), "mc_maze_small", "test", save_file=False
    )["eval_spikes_heldin"]
    ours = read_test_file(MC_MAZE_SMALL, REAL_TEST_FILE, bin_ms)
    assert theirs.shape == (100, 700 // bin_ms, 107)
    assert ours.spikes.shape == (100, 900 // bin_ms, 107)
    np.testing.assert_array_equal(ours.spikes[:, : ours.n_observed], theirs)
    assert ours.observed[:, : ours.n_observed, 0].all()
    assert not ours.observed[:, ours.n_observed :].any()
    assert ours.n_heldin == 107
    assert ours.behavior.shape == (100, 900 // bin_ms, 0)
