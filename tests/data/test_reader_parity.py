"""The reader against nlb_tools, entry by entry."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from helpers.nwb_files import Written, write_bump, write_maze, write_rtt
from helpers.specs import AREA2_BUMP, MC_MAZE, MC_MAZE_SMALL, MC_RTT

from blend_pl.data.reader import read_session, read_test_file
from blend_pl.data.recording import read_recording
from blend_pl.data.session import SessionTensors
from blend_pl.data.spec import SessionSpec, Window

pytest.importorskip("nlb_tools", reason="needs the extra nlb")
from nlb_tools import make_tensors, nwb_interface

REAL_TEST_FILE = Path(__file__).parents[2] / "../shared/data/sub-Jenkins_ses-small_desc-test_ecephys.nwb"

SETS = {
    "mc_maze": (MC_MAZE, lambda folder: write_maze(folder, 1, 22, 10, 6, n_units=15, shuffled_ids=True)),
    "mc_rtt": (MC_RTT, lambda folder: write_rtt(folder, 2, 20, 10, 6, n_units=15)),
    "area2_bump": (AREA2_BUMP, lambda folder: write_bump(folder, 3, 22, 10, 6, n_units=15)),
}


@dataclass
class Case:
    spec: SessionSpec
    files: Written
    bin_ms: int
    session: dict[str, SessionTensors]
    dataset: Any

    def train_input(self, split: str) -> dict[str, np.ndarray]:
        return make_tensors.make_train_input_tensors(
            self.dataset,
            self.spec.name,
            split,
            save_file=False,
            include_behavior=True,
            include_forward_pred=True,
        )

    def targets(self) -> dict[str, np.ndarray]:
        made = make_tensors.make_eval_target_tensors(
            self.dataset, self.spec.name, save_file=False, include_psth=self.spec.psth is not None
        )
        (targets,) = made.values()
        return targets


def nlb_dataset(path: Path, bin_ms: int) -> Any:
    dataset = nwb_interface.NWBDataset(str(path))
    # Behaviour with gaps leaves the index unsorted under pandas 2, which drops the last trial.
    dataset.data = dataset.data.sort_index()
    dataset.resample(bin_ms)
    return dataset


@pytest.fixture(scope="module", params=[(name, bin_ms) for name in SETS for bin_ms in (5, 20)], ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name, bin_ms = request.param
    spec, write = SETS[name]
    files = write(tmp_path_factory.mktemp(name))
    session = read_session(spec, files.train, files.test, bin_ms)
    return Case(spec, files, bin_ms, session, nlb_dataset(files.train, bin_ms))


@pytest.fixture(autouse=True)
def serial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nwb_interface, "_poolmap", lambda function, items, **_: list(map(function, items)))


@pytest.mark.parametrize("split", ["train", "val"])
def test_spikes_and_behaviour_of_training_input(case: Case, split: str) -> None:
    ours, theirs = case.session[split], case.train_input(split)
    spikes, behavior = ours.spikes.numpy(), ours.behavior.numpy()
    n, t = ours.n_heldin, ours.n_observed

    np.testing.assert_array_equal(spikes[:, :t, :n], theirs["train_spikes_heldin"])
    np.testing.assert_array_equal(spikes[:, :t, n:], theirs["train_spikes_heldout"])
    np.testing.assert_array_equal(spikes[:, t:, :n], theirs["train_spikes_heldin_forward"])
    np.testing.assert_array_equal(spikes[:, t:, n:], theirs["train_spikes_heldout_forward"])
    np.testing.assert_array_equal(behavior[:, :t], theirs["train_behavior"].astype(np.float32))
    assert theirs["train_spikes_heldin"].sum() > 100
    assert np.isfinite(behavior[:, :t]).all()
    assert ours.observed.all()


def test_evaluation_targets(case: Case) -> None:
    train, val, theirs = case.session["train"], case.session["val"], case.targets()
    n, t = val.n_heldin, val.n_observed

    np.testing.assert_array_equal(val.spikes[:, :t, n:], theirs["eval_spikes_heldout"])
    np.testing.assert_array_equal(val.spikes[:, t:, :n], theirs["eval_spikes_heldin_forward"])
    np.testing.assert_array_equal(val.spikes[:, t:, n:], theirs["eval_spikes_heldout_forward"])
    np.testing.assert_array_equal(train.behavior[:, :t], theirs["train_behavior"].astype(np.float32))
    np.testing.assert_array_equal(val.behavior[:, :t], theirs["eval_behavior"].astype(np.float32))
    if case.spec.decode_by:
        np.testing.assert_array_equal(train.decode_mask, theirs["train_decode_mask"])
        np.testing.assert_array_equal(val.decode_mask, theirs["eval_decode_mask"])
    else:
        assert train.decode_mask.shape == (len(train), 1)
        assert train.decode_mask.all()
    if case.spec.psth:
        assert len(theirs["psth"]) >= 6
        np.testing.assert_allclose(val.psth, theirs["psth"], rtol=0, atol=1e-12)
        assert torch.equal(val.psth, train.psth)
        for session, key in ((train, "train_cond_idx"), (val, "eval_cond_idx")):
            for condition, trials in enumerate(theirs[key]):
                np.testing.assert_array_equal(np.flatnonzero(session.condition == condition), trials)


def test_behaviour_of_the_whole_recording_before_it_is_cut(case: Case) -> None:
    assert case.spec.behavior is not None
    ours = read_recording(case.files.train, case.spec.behavior, case.bin_ms, behavior_required=True).behavior
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

    window = Window(-310, 2490, align="start_time", forward_ms=0)
    ours = read_session(replace(MC_MAZE, window=window), files.train, None, bin_ms)["val"]
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
