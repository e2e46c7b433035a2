"""Teachers that are trained on demand, once, whoever asks first."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from blend_pl.compat import upgrade_arguments
from blend_pl.config import (
    YAML_SUFFIXES,
    Config,
    compose_experiment,
    is_overlay,
    merge,
    split_reference,
    suggest_composition,
)
from blend_pl.errors import TeacherError, TrainingInterrupted
from blend_pl.runs.artifacts import WANDB_PREFIX, fetch_artifact
from blend_pl.runs.folder import best_checkpoint, config_fingerprint, find_finished_run, wait_until_unlocked
from blend_pl.utils.files import atomic_file, write_error
from blend_pl.utils.signals import TERMINATION_SIGNALS, handle_signals

DISTRIBUTED_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Variables that would make the teacher's process wait for ranks that are waiting for it."""
LAUNCHER_PREFIXES = (
    "MASTER_",
    "SLURM_",
    "TORCHELASTIC_",
    "WANDB_SWEEP_",
    "WANDB_RUN_",
    "WANDB_RESUME",
    "WANDB_SERVICE",
)
"""Beginnings of the names of variables that would tie it to a launcher's job, or to another run of W&B."""

SEED_STEP = 1000
"""Between the seeds of teachers of one experiment, so that students of neighbouring seeds share none of them."""


def resolve_teachers(
    references: str | list[str],
    student: Config,
    arguments: list[str],
    output: Path,
    resolve_config: Callable[[list[str]], dict[str, Any]],
    log: Callable[[str], None],
) -> list[Path]:
    """The checkpoints behind one or more references; an experiment that is named again stands for another seed.

    Args and errors are those of `resolve_teacher`.
    """
    names = [references] if isinstance(references, str) else references
    if not names:
        raise TeacherError("distillation.teacher is an empty list; name at least one teacher")
    seeds = [student["seed_everything"] + SEED_STEP * names[:index].count(name) for index, name in enumerate(names)]
    return [
        resolve_teacher(name, {**student, "seed_everything": seed}, arguments, output, resolve_config, log)
        for name, seed in zip(names, seeds, strict=True)
    ]


def resolve_teacher(
    reference: str,
    student: Config,
    arguments: list[str],
    output: Path,
    resolve_config: Callable[[list[str]], dict[str, Any]],
    log: Callable[[str], None],
) -> Path:
    """The checkpoint behind a reference to a teacher.

    An experiment file stands for its best checkpoint, on the student's data and seed. If no such run has finished, it
    is trained now, in a process of its own, so that the student's chance is the same whether or not its teacher was
    there; it is told to the same loggers. Others who want the same teacher wait.

    Args:
        reference: a checkpoint, a run folder, an experiment file, several files joined by `+`, or an artifact of W&B as
            in `fetch_artifact`.
        student: the student's resolved settings.
        arguments: command-line arguments for the teacher's training, beyond its experiment file.
        output: where runs live.
        resolve_config: from arguments of `fit` to resolved settings.
        log: tells the user what is going on.

    Returns:
        Path of the checkpoint.

    Raises:
        TeacherError: there is no such teacher, it cannot be fetched, or its training failed.
        Stopped: its training was ended by a signal.
    """
    if reference.startswith(WANDB_PREFIX):
        return fetch_artifact(reference, output, log)
    path = Path(reference)
    if path.suffix not in YAML_SUFFIXES:
        return best_checkpoint(path) if path.is_dir() else path
    experiment = _read_experiment(reference)
    shared: Config = {"data": student["data"], "seed_everything": student["seed_everything"]}
    if student["trainer"]["logger"]:
        shared["trainer"] = {"logger": student["trainer"]["logger"]}
    config = merge(experiment, shared)
    name = config["name"]
    fit_arguments = ["--config", json.dumps(config), *upgrade_arguments(arguments, config)]
    fingerprint = config_fingerprint(resolve_config(fit_arguments))
    experiment_dir = output / name
    try:
        experiment_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(experiment_dir / f".{fingerprint}.lock")
        if find_finished_run(experiment_dir, fingerprint) is None:
            log(f"the teacher {name} ({fingerprint}) is not there yet: training it first")
        with lock:
            run_dir = experiment_dir / f"seed{student['seed_everything']}-{fingerprint}"
            # Whoever began to train it may have been killed without it.
            wait_until_unlocked(run_dir)
            run = find_finished_run(experiment_dir, fingerprint)
            if run is None:
                run = run_dir
                _train_teacher(fit_arguments, run, output)
    except OSError as error:
        raise write_error(experiment_dir, error) from error
    log(f"teacher: {run}")
    return best_checkpoint(run)


def _read_experiment(reference: str) -> Config:
    paths = split_reference(reference)
    for path in paths:
        if not path.exists():
            suggestion = suggest_composition(path)
            advice = f"write {suggestion}" if suggestion else "check distillation.teacher"
            raise TeacherError(f"there is no teacher experiment {path}; {advice}")
    config = compose_experiment(paths)
    if is_overlay(config):
        raise TeacherError(
            f"{reference} has no data settings; write an experiment before it, as in EXPERIMENT.yaml+{reference}"
        )
    return config


def clean_environment() -> dict[str, str]:
    """The variables of a process that trains on its own, whoever launched this one."""
    return {
        k: v for k, v in os.environ.items() if k not in DISTRIBUTED_VARIABLES and not k.startswith(LAUNCHER_PREFIXES)
    }


def _train_teacher(arguments: list[str], run: Path, output: Path) -> None:
    # The settings travel in a file: a command line may be too short for them.
    with atomic_file(run / "teacher.json") as file:
        file.write_text(arguments[1])
    command = [sys.executable, "-m", "blend_pl", "fit", "--config", str(run / "teacher.json"), *arguments[2:]]
    command += ["--run_dir", str(run), "--output", str(output), "--resume", "true"]
    status = _run_subprocess(command)
    if status in (TrainingInterrupted.status, *(-signum for signum in TERMINATION_SIGNALS)):
        raise TrainingInterrupted("the training of the teacher was ended by a signal; the same command goes on with it")
    if status != 0:
        raise TeacherError(
            f"training the teacher failed, see above; mend it, or train it with: {' '.join(command[2:])}"
        )


def _run_subprocess(command: list[str]) -> int:
    """The exit status of a command in a process of its own, which ends with this one."""
    # A student that is killed frees the lock: its teacher must not go on beside the next one.
    child_command = [sys.executable, "-m", "blend_pl.utils.child", str(os.getpid()), *command]
    with subprocess.Popen(child_command, env=clean_environment()) as process, handle_signals(process.send_signal):
        return process.wait()
