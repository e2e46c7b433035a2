"""Processes that are killed at any moment leave whole files, and the same command again ends where it would have."""

import json
import random
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from helpers.cli import SIMULATION, TINY, differing, experiment, finish, start, teacher_args, weights

from blend_pl.errors import TrainingInterrupted
from blend_pl.runs.folder import lock_run

KILLS = 5
SEEDS = range(4)
"""Twenty kills in all."""
EPOCHS = 12
READERS = {
    ".ckpt": lambda path: torch.load(path, weights_only=True),
    ".pt": lambda path: torch.load(path, weights_only=True),
    ".json": lambda path: json.loads(path.read_text()),
    ".yaml": lambda path: yaml.safe_load(path.read_text()),
    ".h5": lambda path: h5py.File(path).close(),
    ".nwb": lambda path: h5py.File(path).close(),
}
"""By ending, what reads a file and fails where it is not whole."""


def arguments(folder: Path) -> list[str]:
    """A student whose session is not simulated, and whose teacher is not trained yet."""
    data = [f"--data.root={folder / 'data'}", *SIMULATION, "--data.batch_size=3"]
    config = ["--config", str(experiment("simulated_feature")), *TINY, f"--trainer.max_epochs={EPOCHS}"]
    return [*config, *data, teacher_args("--trainer.max_epochs=4"), f"--output={folder / 'runs'}", "--resume=true"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that nothing happened to, and how long it took."""
    folder, began = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    finish(start("fit", *arguments(folder)))
    return folder, time.monotonic() - began


def expect_whole(folder: Path) -> set[str]:
    """Reads every file under its final name; the endings that there were."""
    found = set()
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix in READERS:
            READERS[path.suffix](path)
            found.add(path.suffix)
    return found


def student_of(folder: Path) -> Path:
    (run,) = (folder / "runs" / "simulated_feature").glob("seed0-*")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_sigkill_at_random_moments(seed: int, undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    """While the session is made, while the teacher is trained, while the student is, and while it is scored."""
    whole, seconds = undisturbed
    moments = random.Random(seed)
    killed = 0
    for _ in range(KILLS):
        process = start("fit", *arguments(tmp_path))
        time.sleep(moments.uniform(0.1, 0.6) * seconds)
        process.kill()
        out, err = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), out + err
        killed += process.returncode != 0
        expect_whole(tmp_path)
    assert killed
    finish(start("fit", *arguments(tmp_path)))
    assert expect_whole(tmp_path) == {".ckpt", ".pt", ".json", ".yaml", ".h5", ".nwb"}
    run, other = student_of(tmp_path), student_of(whole)
    assert differing(weights(run), weights(other)) == []
    assert differing(weights(run, "best.ckpt"), weights(other, "best.ckpt")) == []
    scores = [json.loads((each / "results.json").read_text())["scores"] for each in (run, other)]
    assert scores[0] == scores[1]
    assert not [path for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]
    (teacher,) = (tmp_path / "runs" / "simulated_teacher").glob("seed0-*")
    (undisturbed_teacher,) = (whole / "runs" / "simulated_teacher").glob("seed0-*")
    assert differing(weights(teacher), weights(undisturbed_teacher)) == []


@pytest.mark.slow
def test_a_signal_while_the_teacher_is_trained(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    """Both end, and the same command goes on with the teacher."""
    whole, _ = undisturbed
    process = start("fit", *arguments(tmp_path))
    while not list(tmp_path.glob("runs/simulated_teacher/*/checkpoints/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == TrainingInterrupted.status
    assert err.splitlines()[-1].startswith("blend_pl: the training of the teacher was stopped by a signal")
    (teacher,) = tmp_path.glob("runs/simulated_teacher/seed0-*")
    assert not (teacher / "results.json").exists()
    lock_run(teacher).release()  # Nobody trains it any more.
    finish(start("fit", *arguments(tmp_path)))
    assert differing(weights(student_of(tmp_path)), weights(student_of(whole))) == []


@pytest.mark.slow
def test_a_submission_is_whole_or_not_there(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    whole, _ = undisturbed
    command = ("submit", student_of(whole), "--name=mc_maze")
    began = time.monotonic()
    finish(start(*command, f"--output={tmp_path / 'first.h5'}"))
    seconds = time.monotonic() - began
    moments, path = random.Random(0), tmp_path / "again.h5"
    for _ in range(KILLS):
        process = start(*command, f"--output={path}")
        time.sleep(moments.uniform(0.7, 1.1) * seconds)
        process.kill()
        process.communicate()
        expect_whole(tmp_path)
    path.unlink(missing_ok=True)
    finish(start(*command, f"--output={path}"))
    with h5py.File(path) as again, h5py.File(tmp_path / "first.h5") as first:
        assert again["mc_maze_20"].keys() == first["mc_maze_20"].keys()
        for key, rates in first["mc_maze_20"].items():
            assert np.array_equal(again["mc_maze_20"][key], rates), key
