"""Killed processes leave no partial files, and the same command continues to the same result."""

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
"""With `KILLS`, twenty kills in total."""
EPOCHS = 12
READERS = {
    ".ckpt": lambda path: torch.load(path, weights_only=True),
    ".pt": lambda path: torch.load(path, weights_only=True),
    ".json": lambda path: json.loads(path.read_text()),
    ".yaml": lambda path: yaml.safe_load(path.read_text()),
    ".h5": lambda path: h5py.File(path).close(),
    ".nwb": lambda path: h5py.File(path).close(),
}
"""Readers by suffix, which raise for a partial file."""


def arguments(folder: Path) -> list[str]:
    """Returns arguments for a student without an existing session or teacher."""
    data = [f"--data.root={folder / 'data'}", *SIMULATION, "--data.batch_size=3"]
    config = ["--config", str(experiment("simulated_feature")), *TINY, f"--trainer.max_epochs={EPOCHS}"]
    return [*config, *data, teacher_args("--trainer.max_epochs=4"), f"--output={folder / 'runs'}", "--resume=true"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of an uninterrupted run and its duration in seconds."""
    folder, start_s = tmp_path_factory.mktemp("uninterrupted"), time.monotonic()
    finish(start("fit", *arguments(folder)))
    return folder, time.monotonic() - start_s


def read_all_files(folder: Path) -> set[str]:
    """Reads every file that is not hidden and returns the suffixes that occurred."""
    suffixes = set()
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix in READERS:
            READERS[path.suffix](path)
            suffixes.add(path.suffix)
    return suffixes


def student_of(folder: Path) -> Path:
    (run,) = (folder / "runs" / "simulated_feature").glob("seed0-*")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_run_killed_at_random_times_ends_with_equal_results(
    seed: int, uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    """The kills fall into simulation, training of the teacher, training of the student and evaluation."""
    uninterrupted_folder, seconds = uninterrupted
    random_times = random.Random(seed)
    killed = 0
    for _ in range(KILLS):
        process = start("fit", *arguments(tmp_path))
        time.sleep(random_times.uniform(0.1, 0.6) * seconds)
        process.kill()
        out, err = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), out + err
        killed += process.returncode != 0
        read_all_files(tmp_path)
    assert killed
    finish(start("fit", *arguments(tmp_path)))
    assert read_all_files(tmp_path) == {".ckpt", ".pt", ".json", ".yaml", ".h5", ".nwb"}
    run, other = student_of(tmp_path), student_of(uninterrupted_folder)
    assert differing(weights(run), weights(other)) == []
    assert differing(weights(run, "best.ckpt"), weights(other, "best.ckpt")) == []
    scores = [json.loads((path / "results.json").read_text())["scores"] for path in (run, other)]
    assert scores[0] == scores[1]
    assert not [path for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]
    (teacher,) = (tmp_path / "runs" / "simulated_teacher").glob("seed0-*")
    (uninterrupted_teacher,) = (uninterrupted_folder / "runs" / "simulated_teacher").glob("seed0-*")
    assert differing(weights(teacher), weights(uninterrupted_teacher)) == []


@pytest.mark.slow
def test_same_command_resumes_after_a_signal_during_teacher_training(
    uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    """The signal ends both trainings; the same command continues with the teacher."""
    uninterrupted_folder, _ = uninterrupted
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
    lock_run(teacher).release()  # No process trains it any more.
    finish(start("fit", *arguments(tmp_path)))
    assert differing(weights(student_of(tmp_path)), weights(student_of(uninterrupted_folder))) == []


@pytest.mark.slow
def test_killed_submission_leaves_no_partial_file(uninterrupted: tuple[Path, float], tmp_path: Path) -> None:
    uninterrupted_folder, _ = uninterrupted
    command = ("submit", student_of(uninterrupted_folder), "--name=mc_maze")
    start_s = time.monotonic()
    finish(start(*command, f"--output={tmp_path / 'first.h5'}"))
    seconds = time.monotonic() - start_s
    random_times, path = random.Random(0), tmp_path / "again.h5"
    for _ in range(KILLS):
        process = start(*command, f"--output={path}")
        time.sleep(random_times.uniform(0.7, 1.1) * seconds)
        process.kill()
        process.communicate()
        read_all_files(tmp_path)
    path.unlink(missing_ok=True)
    finish(start(*command, f"--output={path}"))
    with h5py.File(path) as again, h5py.File(tmp_path / "first.h5") as first:
        assert again["mc_maze_20"].keys() == first["mc_maze_20"].keys()
        for key, rates in first["mc_maze_20"].items():
            assert np.array_equal(again["mc_maze_20"][key], rates), key
