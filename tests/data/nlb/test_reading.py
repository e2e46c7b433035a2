"""Tests of reading sessions from NWB files."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers.nwb_files import Written, write_bump, write_maze, write_own, write_rtt
from helpers.specs import AREA2_BUMP, MC_MAZE, MC_RTT, OWN_SESSION

from blend_pl.data.nlb.reading import check_spec, read_session, read_test_file
from blend_pl.data.nlb.spec import BehaviorSpec, HeldOutSpec, PsthSpec, SessionSpec, SplitSpec, WindowSpec
from blend_pl.errors import BlendError, ConfigError, DataError


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_maze(tmp_path_factory.mktemp("maze"), 0, 16, 8, 6, n_none=2, n_units=12, n_heldout=4)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_maze(tmp_path_factory.mktemp("small"), 0, 8, 4, 3, n_none=1, n_units=8, n_heldout=2)


@pytest.fixture
def fresh(small: Written, tmp_path: Path) -> Written:
    return Written(*(Path(shutil.copy(path, tmp_path)) for path in (small.train, small.test)))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own(tmp_path_factory.mktemp("own") / "own.nwb", seconds=30, n_units=12)


def edited(path: Path, edit: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "a") as file:
        edit(file)
    return path


def removed(path: Path, *names: str) -> Path:
    def edit(file: h5py.File) -> None:
        for name in names:
            del file[name]

    return edited(path, edit)


def test_shapes_and_types(maze: Written) -> None:
    session = read_session(MC_MAZE, maze.train, maze.test, 5)
    assert {split: len(tensors) for split, tensors in session.items()} == {"train": 16, "val": 8, "test": 6}
    for tensors in session.values():
        assert tensors.spikes.shape == (len(tensors), 180, 12)
        assert tensors.observed.shape == (len(tensors), 180, 2)
        assert tensors.behavior.shape == (len(tensors), 180, 2)
        assert tensors.psth.shape == (7, 140, 12)
        assert (tensors.n_heldin, tensors.n_forward, tensors.n_observed, tensors.bin_ms) == (8, 40, 140, 5)
        assert tensors.spikes.dtype == torch.uint8
        assert tensors.behavior.dtype == torch.float32
        assert tensors.psth.dtype == torch.float64
        assert tensors.trial_id.dtype == tensors.condition.dtype == tensors.unit_id.dtype == torch.int64


def test_trials_are_numbered_over_both_files_in_order(maze: Written) -> None:
    session = read_session(MC_MAZE, maze.train, maze.test, 20)
    with h5py.File(maze.train) as file:
        split = file["intervals/trials/split"].asstr()[()]
    for name in ("train", "val"):
        assert session[name].trial_id.tolist() == np.flatnonzero(split == name).tolist()
    assert session["test"].trial_id.tolist() == [len(split) + row for row in range(6)]


def test_units_are_held_in_first_and_sorted_by_id(tmp_path: Path) -> None:
    files = write_maze(tmp_path, 0, 4, 2, 2, n_units=9, n_heldout=3, shuffled_ids=True)
    with h5py.File(files.train) as file:
        ids, heldout = file["units/id"][()], file["units/heldout"][()].astype(bool)
    assert (np.diff(ids) < 0).any()
    for tensors in read_session(MC_MAZE, files.train, files.test, 20).values():
        assert tensors.unit_id.tolist() == sorted(ids[~heldout]) + sorted(ids[heldout])


def test_test_trials_of_the_train_file_come_before_those_of_the_test_file(fresh: Written) -> None:
    def edit(file: h5py.File) -> None:
        file["intervals/trials/split"][4] = "test"

    session = read_session(MC_MAZE, edited(fresh.train, edit), fresh.test, 20)
    assert session["test"].trial_id.tolist() == [4, 13, 14, 15]
    assert session["test"].observed[0].all()
    assert not session["test"].observed[1:, :, 1].any()


def test_test_file_without_train_file(maze: Written) -> None:
    alone = read_test_file(MC_MAZE, maze.test, 5)
    together = read_session(MC_MAZE, maze.train, maze.test, 5)["test"]
    assert alone.spikes.shape == (6, 180, 8)
    assert torch.equal(alone.spikes, together.spikes[..., :8])
    assert torch.equal(alone.observed, together.observed)
    assert alone.trial_id.tolist() == list(range(6))
    assert alone.behavior.shape == (6, 180, 0)
    assert alone.psth.shape == (0, 140, 8)


def test_session_without_behavior_psth_and_decoders(fresh: Written) -> None:
    train = removed(fresh.train, "processing/behavior", "intervals/trials/trial_type")
    tensors = read_session(replace(MC_MAZE, behavior=None, psth=None), train, None, 20)["train"]
    assert tensors.behavior.shape == (8, 45, 0)
    assert tensors.psth.shape == (0, 35, 8)
    assert (tensors.condition == -1).all()
    assert tensors.decode_mask.shape == (8, 1)


def test_integer_behavior_becomes_float(fresh: Written) -> None:
    def edit(file: h5py.File) -> None:
        series = file["processing/behavior/hand_vel"]
        rounded = np.rint(series["data"][()]).astype(np.int16)
        del series["data"]
        series["data"] = rounded

    before = read_session(MC_MAZE, fresh.train, None, 5)["train"].behavior
    after = read_session(MC_MAZE, edited(fresh.train, edit), None, 5)["train"].behavior
    assert (after != after.round()).any()
    assert torch.allclose(before, after, atol=1.0)


def test_trials_without_condition_have_none(tmp_path: Path) -> None:
    files = write_bump(tmp_path, 0, 12, 4, 2, n_units=6, n_heldout=2)

    def edit(file: h5py.File) -> None:
        file["intervals/trials/cond_dir"][0] = np.nan

    session = read_session(AREA2_BUMP, edited(files.train, edit), files.test, 20)
    without = [t.condition[t.trial_id == 0] for t in (session["train"], session["val"])]
    assert torch.cat(without).tolist() == [-1]
    assert (session["test"].condition == -1).all()
    assert not session["test"].decode_mask.any()
    assert session["train"].decode_mask.sum(1).tolist() == [1] * 12


@pytest.mark.parametrize("bin_ms", [5, 20])
def test_user_session_without_trials(own: Path, bin_ms: int) -> None:
    session = read_session(OWN_SESSION, own, None, bin_ms)
    assert list(session) == ["train", "val", "test"]
    for tensors in session.values():
        assert tensors.spikes.shape[1:] == (800 // bin_ms, 12)
        assert tensors.n_heldin == 9
        assert tensors.observed.all()
        assert tensors.behavior.shape[-1] == 1
    assert session["train"].behavior.isfinite().all()
    every = torch.cat([tensors.trial_id for tensors in session.values()])
    assert len(every.unique()) == len(every)
    assert session["train"].trial_id.max() < session["val"].trial_id.min()
    assert len(session["train"]) > 3 * len(session["val"])


def test_user_session_with_random_split(maze: Written) -> None:
    spec = SessionSpec(
        "own",
        MC_MAZE.files,
        WindowSpec(-250, 450, align="move_onset_time"),
        BehaviorSpec("hand_pos", columns=[1]),
        HeldOutSpec(column=None, units=[2003, 2017]),
        SplitSpec(column=None, train=0.5, val=0.25),
    )
    session = read_session(spec, maze.train, None, 20)
    assert {split: len(tensors) for split, tensors in session.items()} == {"train": 12, "val": 6, "test": 6}
    assert session["train"].unit_id[-2:].tolist() == [2003, 2017]
    assert session["train"].behavior.shape[-1] == 1


def test_windows_outside_the_recording_are_excluded_from_the_draw(maze: Written, tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        file["intervals/trials/move_onset_time"][3] = 1e4

    spec = replace(MC_MAZE, split=SplitSpec(column=None, train=0.6, val=0.2))
    before = read_session(spec, maze.train, None, 20)
    copy = edited(Path(shutil.copy(maze.train, tmp_path)), edit)
    after = read_session(spec, copy, None, 20)
    assert sum(map(len, after.values())) == sum(map(len, before.values())) - 1
    assert 3 not in torch.cat([tensors.trial_id for tensors in after.values()])
    with pytest.raises(DataError, match=r"1 trials with windows outside the recording \(first: row 3\)"):
        read_session(MC_MAZE, copy, None, 20)


def test_every_forward_bin_of_an_uninterrupted_recording_is_observed(tmp_path: Path) -> None:
    files = write_rtt(tmp_path, 0, 6, 3, 2, n_units=6, n_heldout=2)
    session = read_session(MC_RTT, files.train, files.test, 5)
    assert session["train"].observed.all()
    assert session["test"].observed[:, :120, 0].all()
    assert not session["test"].observed[:, 120:].any()


SPEC_ERRORS = [
    (replace(MC_MAZE, held_out=HeldOutSpec(fraction=0.2)), "held_out.column and held_out.fraction given"),
    (replace(MC_MAZE, psth=PsthSpec([], 50)), "at least one column in psth.condition"),
    (replace(MC_MAZE, psth=PsthSpec(["trial_type"], 0)), "psth.smoothing_ms of 1 or more"),
    (replace(OWN_SESSION, psth=PsthSpec(["trial_type"], 50)), "no trials, which psth needs; set it to null"),
    (replace(OWN_SESSION, outlier_column="is_outlier"), "no trials, which outlier_column needs; set it to null"),
    (replace(MC_MAZE, behavior=BehaviorSpec()), "set its series, trial_columns or categories"),
    (replace(OWN_SESSION, split=SplitSpec()), "set split.column: null"),
    (replace(MC_MAZE, window=WindowSpec(0, 603, align="start_time")), "not a multiple of bin_ms"),
]


@pytest.mark.parametrize(("spec", "message"), SPEC_ERRORS)
def test_contradictory_specs_raise_before_files_are_opened(spec: SessionSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_spec(spec, 5)
    for read in (lambda: read_session(spec, Path("none.nwb"), None, 5), lambda: read_test_file(spec, Path("none"), 5)):
        with pytest.raises(ConfigError, match=message):
            read()


FILE_ERRORS: list[tuple[SessionSpec, list[str], str]] = [
    (MC_MAZE, ["units/heldout"], "set held_out.column: null and held_out.fraction or held_out.units"),
    (MC_MAZE, ["units"], "no units table"),
    (MC_MAZE, ["intervals/trials"], "no trials table; set window.align: null"),
    (MC_MAZE, ["intervals/trials/split"], "no column 'split'; set split.column to one it has: .*move_onset_time"),
    (MC_MAZE, ["intervals/trials/move_onset_time"], "no column 'move_onset_time'; set window.align to one it has"),
    (MC_MAZE, ["intervals/trials/trial_type"], "no column 'trial_type'; set psth.condition to one it has"),
    (MC_MAZE, ["processing/behavior/hand_vel"], "no time series 'hand_vel'; .*processing/behavior/hand_pos"),
    (MC_RTT, [], "no time series 'finger_vel'"),
    (AREA2_BUMP, [], "no column 'ctr_hold_bump'; set decode_by to one it has"),
]


@pytest.mark.parametrize(("spec", "missing", "message"), FILE_ERRORS)
def test_incomplete_files_raise(fresh: Written, spec: SessionSpec, missing: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_session(spec, removed(fresh.train, *missing), fresh.test, 5)
    assert "\n" not in str(caught.value)


def none_train(file: h5py.File) -> None:
    split = file["intervals/trials/split"].asstr()[()]
    file["intervals/trials/split"][...] = np.where(split == "train", "none", split).astype(object)


def no_event(file: h5py.File) -> None:
    split = file["intervals/trials/split"].asstr()[()]
    file["intervals/trials/move_onset_time"][np.flatnonzero(split == "val")[0]] = np.nan


def nan_behavior(file: h5py.File) -> None:
    file["processing/behavior/hand_vel/data"][...] = np.nan


def in_samples(file: h5py.File) -> None:
    file["units/obs_intervals"][...] *= 30_000


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (none_train, "has no training trials"),
        (
            no_event,
            r"1 trials with a split but without move_onset_time \(first: row \d+, val\); set their split to none",
        ),
        (nan_behavior, "hand_vel has no value in column 0"),
        (in_samples, r"lasts \d{3}\.\d hours .* seconds"),
    ],
)
def test_unusable_content_raises(fresh: Written, edit: Callable[[h5py.File], None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_session(MC_MAZE, edited(fresh.train, edit), None, 5)


def test_files_of_two_sessions_raise(fresh: Written, maze: Written) -> None:
    with pytest.raises(DataError, match=r"has 8 units \(2003, .*\), but .* has 6 held-in units \(2010, "):
        read_session(MC_MAZE, fresh.train, maze.test, 5)


def test_train_file_as_test_file_raises(fresh: Written) -> None:
    with pytest.raises(DataError, match="has no test trials"):
        read_test_file(MC_MAZE, fresh.train, 5)


@pytest.mark.parametrize("which", ["train", "test"])
def test_truncated_files_raise(fresh: Written, which: str) -> None:
    path: Path = getattr(fresh, which)
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(BlendError, match=rf"cannot read .*{re.escape(path.name)}.*damaged or incomplete"):
        read_session(MC_MAZE, fresh.train, fresh.test, 5)
