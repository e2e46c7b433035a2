"""Tests of the reader of the published file tree."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.calcium import RUN, SESSION, SPEC, TINY

from blend_pl.data.calcium.cells import split_cells
from blend_pl.data.calcium.simulation import write_bugeon_dataset
from blend_pl.data.calcium.simulation.files import N_EXTRA_CELLS
from blend_pl.data.calcium.tree import read_bugeon_dataset
from blend_pl.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "tree"
    write_bugeon_dataset(TINY, folder)
    return folder


@pytest.fixture
def tree_copy(tree: Path, tmp_path: Path) -> Path:
    """Returns a copy of the tree that a test may change."""
    return Path(shutil.copytree(tree, tmp_path / "tree"))


def test_all_sessions_of_all_mice_are_read(tree: Path) -> None:
    recordings = read_bugeon_dataset(SPEC, tree)
    assert [r.name for r in recordings] == [f"{m}/2019-10-0{d}/Blank/01" for m in ("SB025", "SB026") for d in (1, 2)]
    assert [r.mouse for r in recordings] == ["SB025"] * 2 + ["SB026"] * 2


def test_recording_equals_the_content_of_the_files(tree: Path) -> None:
    recording = read_bugeon_dataset(SPEC, tree)[0]
    assert np.array_equal(recording.activity, np.load(tree / RUN / "frame.neuralActivity.npy"))
    assert np.array_equal(recording.times, np.load(tree / RUN / "frame.times.npy")[:, 0])
    assert recording.label.tolist() == (tree / SESSION / "neuron.ttype.txt").read_text().split()
    assert np.array_equal(recording.position, np.load(tree / SESSION / "neuron.stackPosCorrected.npy").astype("f4"))
    states = np.load(tree / RUN / "frame.states.npy")[:, 0]
    assert np.array_equal(recording.behavior[:, 2:].argmax(1), states)
    assert recording.n_states == 3


def test_behavior_is_interpolated_to_the_frames(tree: Path) -> None:
    recording = read_bugeon_dataset(SPEC, tree)[1]
    session = tree / "SB025/2019-10-02/Blank/01"
    for channel, (name, clock) in enumerate([("running.speed", "running"), ("eye.size", "eye")]):
        values, times = np.load(session / f"{name}.npy")[:, 0], np.load(session / f"{clock}.times.npy")[:, 0]
        expected = np.interp(recording.times, times, values)
        np.testing.assert_allclose(recording.behavior[:, channel], expected, rtol=1e-5)


def test_short_gap_is_interpolated_and_long_gap_is_missing(tree: Path) -> None:
    recording = read_bugeon_dataset(SPEC, tree)[0]
    missing = recording.times[np.isnan(recording.behavior[:, 1])]
    clock, pupil = (np.load(tree / RUN / f"eye.{name}.npy")[:, 0] for name in ("times", "size"))
    assert np.isnan(pupil[100:110]).all()
    assert np.isnan(pupil[300:420]).all()
    assert clock[299] < missing.min() < missing.max() < clock[420]
    assert np.isfinite(recording.behavior[:, 0]).all()


def test_cells_with_an_id_have_the_same_id_on_all_days(tree: Path) -> None:
    first, second = read_bugeon_dataset(SPEC, tree)[:2]
    unique_id = np.load(tree / SESSION / "neuron.UniqueID.npy")[:, 0]
    assert np.array_equal(first.identified, np.isfinite(unique_id))
    assert all(first.cell_id[first.identified] == [f"SB025/{int(u)}" for u in unique_id[np.isfinite(unique_id)]])
    shared = set(first.cell_id) & set(second.cell_id)
    assert shared
    assert shared <= set(first.cell_id[first.identified])
    label = [dict(zip(r.cell_id, r.label, strict=True)) for r in (first, second)]
    assert all(label[0][cell] == label[1][cell] for cell in shared)
    assert len(set(first.cell_id)) == len(first.cell_id)


def test_spec_selects_mice_stimuli_and_channels(tmp_path: Path) -> None:
    write_bugeon_dataset(replace(TINY, n_sessions=1, stimuli=("Blank", "Natural Scenes")), tmp_path / "tree")
    spec = replace(SPEC, mice=["SB026"], recordings=["*/01"], behavior=["eye_x"], state=False)
    recordings = read_bugeon_dataset(spec, tmp_path / "tree")
    assert [r.name for r in recordings] == [f"SB026/2019-10-01/{s}/01" for s in ("Blank", "Natural Scenes")]
    assert recordings[0].behavior.shape[1] == 1
    assert np.array_equal(recordings[0].cell_id, recordings[1].cell_id)


def test_run_that_does_not_fit_its_cell_table_raises(tree: Path) -> None:
    n = len((tree / SESSION / "neuron.ttype.txt").read_text().split())
    with pytest.raises(
        DataError, match=rf"Blank/02 has {n + N_EXTRA_CELLS} neurons, the cell table of .* has {n}; leave"
    ):
        read_bugeon_dataset(replace(SPEC, recordings=["*/02"]), tree)


def _rewrite(name: str, change: Callable[[np.ndarray], np.ndarray], folder: Path = RUN) -> Callable[[Path], None]:
    def break_file(tree: Path) -> None:
        path = tree / folder / name
        np.save(path, change(np.load(path)))

    return break_file


def _replace_label(text: str) -> Callable[[Path], None]:
    def break_file(tree: Path) -> None:
        path = tree / SESSION / "neuron.ttype.txt"
        path.write_text("\n".join([text, *path.read_text().split("\n")[1:]]))

    return break_file


def _swap_samples(times: np.ndarray) -> np.ndarray:
    times[[5, 6]] = times[[6, 5]]
    return times


def _duplicate_id(ids: np.ndarray) -> np.ndarray:
    ids[:2] = 7
    return ids


BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing file": (lambda t: (t / RUN / "eye.size.npy").unlink(), r"there is no file .*eye\.size\.npy; download"),
    "missing activity": (
        lambda t: (t / RUN / "frame.neuralActivity.npy").unlink(),
        "there is no file .*neuralActivity",
    ),
    "missing ids": (lambda t: (t / SESSION / "neuron.UniqueID.npy").unlink(), "there is no file .*UniqueID"),
    "damaged file": (lambda t: (t / RUN / "frame.times.npy").write_bytes(b"no"), r"cannot read .*frame\.times\.npy"),
    "empty file": (lambda t: (t / RUN / "running.speed.npy").write_bytes(b""), r"cannot read .*running\.speed\.npy"),
    "wrong length": (_rewrite("frame.states.npy", lambda x: x[:-1]), r"frame\.states\.npy has 639 rows, .* 640 frames"),
    "wrong length of times": (_rewrite("frame.times.npy", lambda x: x[:-1]), r"has 639 rows, there are 640 frames"),
    "wrong length of behavior": (_rewrite("eye.size.npy", lambda x: x[:-9]), r"samples of eye\.times\.npy"),
    "wrong number of ids": (
        _rewrite("neuron.UniqueID.npy", lambda x: x[:-1], SESSION),
        "has 35 rows, there are 36 cells",
    ),
    "text for numbers": (_rewrite("frame.states.npy", lambda x: x.astype(str)), "an array of numbers is required"),
    "pickled": (_rewrite("frame.states.npy", lambda x: x.astype(object)), r"cannot read .*frame\.states\.npy"),
    "one dimension": (_rewrite("frame.neuralActivity.npy", lambda x: x[:, 0]), "a two-dimensional array is required"),
    "frames out of order": (
        _rewrite("frame.times.npy", _swap_samples),
        r"frame\.times\.npy has timestamps that are out of order",
    ),
    "behavior out of order": (
        _rewrite("running.times.npy", _swap_samples),
        r"running\.times\.npy has timestamps that are out of order",
    ),
    "unknown state": (_rewrite("frame.states.npy", lambda x: x + 1), r"frame\.states\.npy has the state 3"),
    "duplicate id": (_rewrite("neuron.UniqueID.npy", _duplicate_id, SESSION), "has the UniqueID 7 twice"),
    "unknown label": (
        _replace_label("Chandelier-1"),
        r"Blank/01 has a cell of the unknown type 'Chandelier-1'; add it to data\.spec\.types \(to untyped if .*\), "
        r"which has EC, IN",
    ),
    "missing label": (_replace_label(""), "neurons|cell of the unknown type ''"),
    "no cell table": (lambda t: shutil.rmtree(t / "SB025"), "contains no session with neuron.ttype.txt"),
}


@pytest.mark.parametrize(("breakage", "message"), BREAKAGES.values(), ids=BREAKAGES)
def test_broken_tree_raises_one_line(tree_copy: Path, breakage: Callable[[Path], object], message: str) -> None:
    breakage(tree_copy)
    spec = replace(SPEC, mice=["SB025", "SB026"])
    with pytest.raises(DataError, match=message) as error:
        split_cells(read_bugeon_dataset(spec, tree_copy), spec.cells, spec.types)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recordings": ["Blanc/01"]}, r"has a run Blanc/01; correct data\.spec\.recordings"),
        ({"mice": ["SB999"]}, r"SB999 contains no session .*data\.spec\.mice"),
    ],
)
def test_spec_without_a_match_raises(tree: Path, changes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_bugeon_dataset(replace(SPEC, **changes), tree)  # type: ignore[arg-type]


def test_folder_without_mice_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"contains no folder of a mouse"):
        read_bugeon_dataset(SPEC, tmp_path)


def test_unknown_behavior_raises(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"names 'whisking'; the published tree has running, pupil"):
        read_bugeon_dataset(replace(SPEC, behavior=["whisking"]), tree)


def test_depth_is_appended_to_two_dimensional_positions(tree_copy: Path) -> None:
    path = tree_copy / SESSION / "neuron.stackPosCorrected.npy"
    position = np.load(path)
    np.save(path, position[:, :2])
    assert np.array_equal(read_bugeon_dataset(SPEC, tree_copy)[0].position, position.astype("f4"))
