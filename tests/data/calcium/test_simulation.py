"""Tests of the simulated calcium recordings."""

import json
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from helpers.calcium import RUN, SESSION, TINY

from blend_pl.data.calcium.simulation import BugeonSimulation, write_bugeon_dataset
from blend_pl.data.calcium.simulation.animal import draw_behavior
from blend_pl.data.calcium.simulation.parameters import FACTORS, SUBTYPES, TUNING
from blend_pl.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulation") / "tree"
    write_bugeon_dataset(TINY, folder)
    return folder


def test_layout_equals_the_published_tree(tree: Path) -> None:
    assert {path.name for path in tree.glob("*.txt")} == {"ttypes.names.txt", "genes.names.txt", "states.names.txt"}
    n = round(TINY.n_cells * TINY.visible_fraction)
    cells = {path.name: np.load(path).shape for path in (tree / SESSION).glob("*.npy")}
    names = ("UniqueID", "gene_count", "prob_ttypes", "stackPosCorrected", "depth", "plane")
    assert cells.keys() == {f"neuron.{name}.npy" for name in names}
    assert cells["neuron.gene_count.npy"] == (n, 72)
    assert cells["neuron.UniqueID.npy"] == (n, 1)
    run = {path.name: np.load(path).shape for path in (tree / RUN).glob("*.npy")}
    assert run.keys() == {
        *("frame.neuralActivity.npy", "frame.times.npy", "frame.states.npy", "running.speed.npy", "running.times.npy"),
        *("eye.size.npy", "eye.xPos.npy", "eye.yPos.npy", "eye.times.npy"),
    }
    assert run["frame.neuralActivity.npy"] == (TINY.n_frames, n)
    assert run["frame.times.npy"] == run["frame.states.npy"] == (TINY.n_frames, 1)
    assert (tree / SESSION / "neuron.ttype.txt").read_text().count("\n") == n


def test_tree_contains_difficult_cases_for_readers(tree: Path) -> None:
    labels = [path.read_text().split() for path in sorted(tree.glob("*/*/neuron.ttype.txt"))]
    assert any(label.startswith("Serpinf1") for session in labels for label in session)
    assert any("IN" in session for session in labels)
    unique_id = np.load(tree / SESSION / "neuron.UniqueID.npy")
    assert 0 < np.isnan(unique_id).mean() < 1
    activity = [np.load(path) for path in tree.glob("*/*/Blank/01/frame.neuralActivity.npy")]
    assert any((values.std(0) == 0).any() for values in activity)
    assert np.load(tree / SESSION / "Blank/02/frame.neuralActivity.npy").shape[1] != len(labels[0])
    assert np.isnan(np.load(tree / RUN / "eye.size.npy")).any()


def test_equal_parameters_give_equal_trees(tree: Path, tmp_path: Path) -> None:
    write_bugeon_dataset(TINY, tmp_path / "same")
    write_bugeon_dataset(replace(TINY, seed=1), tmp_path / "other")
    files = sorted(path.relative_to(tree) for path in tree.rglob("*.npy"))
    assert all((tree / path).read_bytes() == (tmp_path / "same" / path).read_bytes() for path in files)
    activity = RUN / "frame.neuralActivity.npy"
    assert (tree / activity).read_bytes() != (tmp_path / "other" / activity).read_bytes()


def test_concurrent_processes_write_one_tree(tmp_path: Path) -> None:
    simulation = replace(TINY, n_mice=1, n_sessions=1, n_frames=50)
    processes = [
        get_context("fork").Process(target=write_bugeon_dataset, args=(simulation, tmp_path / "tree")) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_folder_with_other_content_raises(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains something other than this simulated tree"):
        write_bugeon_dataset(replace(TINY, seed=1), tree)
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(DataError, match="choose another folder"):
        write_bugeon_dataset(TINY, tmp_path)
    assert json.loads((tree / "simulation.json").read_text())["seed"] == TINY.seed


def test_states_agree_with_speed() -> None:
    behavior = draw_behavior(4000, np.random.default_rng(0))
    speed = np.interp(behavior.frame_times, behavior.times, behavior.speed)
    assert set(behavior.state) == {0, 1, 2}
    assert speed[behavior.state == 0].min() > speed[behavior.state != 0].max()
    np.testing.assert_allclose(behavior.factors.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(behavior.factors.std(0), 1)


def test_activity_follows_running_by_subclass(tmp_path: Path) -> None:
    write_bugeon_dataset(BugeonSimulation(n_mice=1, n_sessions=1, n_cells=120, n_frames=3000), tmp_path / "tree")
    names = (tmp_path / "tree" / SESSION / "neuron.ttype.txt").read_text().split()
    label = np.array([name.split("-")[0] for name in names])
    activity = np.load(tmp_path / "tree" / RUN / "frame.neuralActivity.npy")
    times, speed = (np.load(tmp_path / "tree" / RUN / f"running.{name}.npy")[:, 0] for name in ("times", "speed"))
    running = np.interp(np.load(tmp_path / "tree" / RUN / "frame.times.npy")[:, 0], times, speed)
    is_active = activity.std(0) > 0
    correlation = np.zeros(len(label))
    correlation[is_active] = [np.corrcoef(running, cell)[0, 1] for cell in activity[:, is_active].T]
    mean = {name: correlation[(label == name) & is_active].mean() for name in ("Sst", "Vip", "Lamp5", "EC")}
    assert mean["Sst"] > 0.2
    assert mean["Vip"] > 0.2
    assert mean["Lamp5"] < -0.1
    assert mean["Lamp5"] < mean["EC"] < mean["Sst"]


def test_every_subclass_has_weights() -> None:
    assert TUNING.keys() == {"EC", *SUBTYPES}
    assert all(len(weights) == len(FACTORS) for weights in TUNING.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"n_mice": 0},
        {"n_mice": 5},
        {"n_frames": 0},
        {"visible_fraction": 0.0},
        {"excitatory": 1.1},
        {"gain": -1.0},
        {"stimuli": ()},
    ],
)
def test_invalid_parameters_raise(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"simulation: {next(iter(changes))}"):
        BugeonSimulation(**changes)  # type: ignore[arg-type]
