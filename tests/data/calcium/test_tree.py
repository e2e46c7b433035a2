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
def own(tree: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tree, tmp_path / "tree"))


def test_all_sessions_of_all_mice_are_read(tree: Path) -> None:
    recordings = read_bugeon_dataset(SPEC, tree)
    assert [r.name for r in recordings] == [f"{m}/2019-10-0{d}/Blank/01" for m in ("SB025", "SB026") for d in (1, 2)]
    assert [r.mouse for r in recordings] == ["SB025"] * 2 + ["SB026"] * 2


def test_a_recording_is_what_the_files_hold(tree: Path) -> None:
    recording = read_bugeon_dataset(SPEC, tree)[0]
    assert np.array_equal(recording.activity, np.load(tree / RUN / "frame.neuralActivity.npy"))
    assert np.array_equal(recording.times, np.load(tree / RUN / "frame.times.npy")[:, 0])
    assert recording.label.tolist() == (tree / SESSION / "neuron.ttype.txt").read_text().split()
    assert np.array_equal(recording.position, np.load(tree / SESSION / "neuron.stackPosCorrected.npy").astype("f4"))
    states = np.load(tree / RUN / "frame.states.npy")[:, 0]
    assert np.array_equal(recording.behavior[:, 2:].argmax(1), states)
    assert recording.n_states == 3


def test_behaviour_is_read_at_the_frames(tree: Path) -> None:
    recording = read_bugeon_dataset(SPEC, tree)[1]
    session = tree / "SB025/2019-10-02/Blank/01"
    for channel, (name, clock) in enumerate([("running.speed", "running"), ("eye.size", "eye")]):
        values, times = np.load(session / f"{name}.npy")[:, 0], np.load(session / f"{clock}.times.npy")[:, 0]
        expected = np.interp(recording.times, times, values)
        np.testing.assert_allclose(recording.behavior[:, channel], expected, rtol=1e-5)


def test_a_blink_is_bridged_and_a_closed_eye_is_missing(tree: Path) -> None:
    recording = read_bugeon_dataset(SPEC, tree)[0]
    missing = recording.times[np.isnan(recording.behavior[:, 1])]
    clock, pupil = (np.load(tree / RUN / f"eye.{name}.npy")[:, 0] for name in ("times", "size"))
    assert np.isnan(pupil[100:110]).all()
    assert np.isnan(pupil[300:420]).all()
    assert clock[299] < missing.min() < missing.max() < clock[420]
    assert np.isfinite(recording.behavior[:, 0]).all()


def test_cells_keep_their_name_over_days_if_they_have_an_id(tree: Path) -> None:
    first, second = read_bugeon_dataset(SPEC, tree)[:2]
    unique = np.load(tree / SESSION / "neuron.UniqueID.npy")[:, 0]
    assert np.array_equal(first.identified, np.isfinite(unique))
    assert all(first.cell_id[first.identified] == [f"SB025/{int(u)}" for u in unique[np.isfinite(unique)]])
    shared = set(first.cell_id) & set(second.cell_id)
    assert shared
    assert shared <= set(first.cell_id[first.identified])
    label = [dict(zip(r.cell_id, r.label, strict=True)) for r in (first, second)]
    assert all(label[0][cell] == label[1][cell] for cell in shared)
    assert len(set(first.cell_id)) == len(first.cell_id)


def test_mice_stimuli_and_channels_can_be_chosen(tmp_path: Path) -> None:
    write_bugeon_dataset(replace(TINY, n_sessions=1, stimuli=("Blank", "Natural Scenes")), tmp_path / "tree")
    spec = replace(SPEC, mice=["SB026"], recordings=["*/01"], behavior=["eye_x"], state=False)
    recordings = read_bugeon_dataset(spec, tmp_path / "tree")
    assert [r.name for r in recordings] == [f"SB026/2019-10-01/{s}/01" for s in ("Blank", "Natural Scenes")]
    assert recordings[0].behavior.shape[1] == 1
    assert np.array_equal(recordings[0].cell_id, recordings[1].cell_id)


def test_a_run_that_does_not_fit_its_cell_table_is_refused(tree: Path) -> None:
    n = len((tree / SESSION / "neuron.ttype.txt").read_text().split())
    with pytest.raises(
        DataError, match=rf"Blank/02 has {n + N_EXTRA_CELLS} neurons, the cell table of .* has {n}; leave"
    ):
        read_bugeon_dataset(replace(SPEC, recordings=["*/02"]), tree)


def _rewrite(name: str, change: Callable[[np.ndarray], np.ndarray], folder: Path = RUN) -> Callable[[Path], None]:
    def broken(tree: Path) -> None:
        path = tree / folder / name
        np.save(path, change(np.load(path)))

    return broken


def _label(text: str) -> Callable[[Path], None]:
    def broken(tree: Path) -> None:
        path = tree / SESSION / "neuron.ttype.txt"
        path.write_text("\n".join([text, *path.read_text().split("\n")[1:]]))

    return broken


def _swap(times: np.ndarray) -> np.ndarray:
    times[[5, 6]] = times[[6, 5]]
    return times


def _twice(ids: np.ndarray) -> np.ndarray:
    ids[:2] = 7
    return ids


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing file": (lambda t: (t / RUN / "eye.size.npy").unlink(), r"there is no file .*eye\.size\.npy; fetch"),
    "missing activity": (
        lambda t: (t / RUN / "frame.neuralActivity.npy").unlink(),
        "there is no file .*neuralActivity",
    ),
    "missing ids": (lambda t: (t / SESSION / "neuron.UniqueID.npy").unlink(), "there is no file .*UniqueID"),
    "damaged file": (lambda t: (t / RUN / "frame.times.npy").write_bytes(b"no"), r"cannot read .*frame\.times\.npy"),
    "empty file": (lambda t: (t / RUN / "running.speed.npy").write_bytes(b""), r"cannot read .*running\.speed\.npy"),
    "wrong length": (_rewrite("frame.states.npy", lambda x: x[:-1]), r"frame\.states\.npy has 639 rows, .* 640 frames"),
    "wrong length of times": (_rewrite("frame.times.npy", lambda x: x[:-1]), r"has 639 rows, there are 640 frames"),
    "wrong length of behaviour": (_rewrite("eye.size.npy", lambda x: x[:-9]), r"samples of eye\.times\.npy"),
    "wrong number of ids": (
        _rewrite("neuron.UniqueID.npy", lambda x: x[:-1], SESSION),
        "has 35 rows, there are 36 cells",
    ),
    "text for numbers": (_rewrite("frame.states.npy", lambda x: x.astype(str)), "an array of numbers is needed"),
    "pickled": (_rewrite("frame.states.npy", lambda x: x.astype(object)), r"cannot read .*frame\.states\.npy"),
    "one dimension": (_rewrite("frame.neuralActivity.npy", lambda x: x[:, 0]), "a table of two dimensions is needed"),
    "frames out of order": (
        _rewrite("frame.times.npy", _swap),
        r"frame\.times\.npy has timestamps that are out of order",
    ),
    "behaviour out of order": (
        _rewrite("running.times.npy", _swap),
        r"running\.times\.npy has timestamps that are out of order",
    ),
    "strange state": (_rewrite("frame.states.npy", lambda x: x + 1), r"frame\.states\.npy has the state 3"),
    "an id twice": (_rewrite("neuron.UniqueID.npy", _twice, SESSION), "has the UniqueID 7 twice"),
    "unknown label": (_label("Chandelier-1"), r"Blank/01 has a cell of type 'Chandelier-1'; known are EC, IN"),
    "a label too few": (_label(""), "neurons|cell of type ''"),
    "no cell table": (lambda t: shutil.rmtree(t / "SB025"), "holds no session with neuron.ttype.txt"),
}


@pytest.mark.parametrize(("breakage", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_tree_is_refused_in_one_line(own: Path, breakage: Callable[[Path], object], message: str) -> None:
    breakage(own)
    spec = replace(SPEC, mice=["SB025", "SB026"])
    with pytest.raises(DataError, match=message) as raised:
        split_cells(read_bugeon_dataset(spec, own), spec.cells, spec.types)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recordings": ["Blanc/01"]}, r"has a run Blanc/01; correct data\.spec\.recordings"),
        ({"mice": ["SB999"]}, r"SB999 holds no session .*data\.spec\.mice"),
    ],
)
def test_a_spec_that_matches_nothing_is_refused(tree: Path, changes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_bugeon_dataset(replace(SPEC, **changes), tree)  # type: ignore[arg-type]


def test_a_folder_without_mice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no folder of a mouse"):
        read_bugeon_dataset(SPEC, tmp_path)


def test_unknown_behaviour_is_refused(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"names 'whisking'; the published tree has running, pupil"):
        read_bugeon_dataset(replace(SPEC, behavior=["whisking"]), tree)


def test_two_dimensional_positions_get_their_depth(own: Path) -> None:
    path = own / SESSION / "neuron.stackPosCorrected.npy"
    whole = np.load(path)
    np.save(path, whole[:, :2])
    assert np.array_equal(read_bugeon_dataset(SPEC, own)[0].position, whole.astype("f4"))
