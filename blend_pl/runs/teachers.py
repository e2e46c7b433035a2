"""Resolution of references to teachers, which are trained on demand, once."""

import functools
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
    find_config,
    is_overlay,
    merge,
    split_reference,
    suggest_composition,
    suggest_file,
)
from blend_pl.errors import TeacherError, TrainingInterrupted
from blend_pl.runs.artifacts import WANDB_PREFIX, fetch_artifact
from blend_pl.runs.digest import other_data_message, resumable_run_dir, stored_digest
from blend_pl.runs.folder import (
    best_checkpoint,
    config_fingerprint,
    find_finished_run,
    is_finished,
    wait_until_unlocked,
)
from blend_pl.utils.files import atomic_file, write_error
from blend_pl.utils.signals import TERMINATION_SIGNALS, handle_signals

DISTRIBUTED_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Environment variables that would make the teacher's process wait for ranks, which wait for the teacher."""
LAUNCHER_PREFIXES = (
    "MASTER_",
    "SLURM_",
    "TORCHELASTIC_",
    "WANDB_SWEEP_",
    "WANDB_RUN_",
    "WANDB_RESUME",
    "WANDB_SERVICE",
)
"""Prefixes of environment variables that would connect the process to a launcher's job or to another W&B run."""

DigestOf = Callable[[Config], str | None]
"""Returns the digest of the data with these data settings; see `NeuralDataModule.digest`."""

StepsOf = Callable[[Config], int | None]
"""Returns the number of steps of a training with these settings; None if it is unknown."""

TEACHER_ARGS_EXAMPLE = "'[--trainer.max_epochs=10, ...]'"
"""Example of the setting that changes the training of teachers."""

SEED_STEP = 1000
"""Distance between the seeds of several teachers of one experiment; students of adjacent seeds share no teachers."""


def resolve_teachers(
    references: str | list[str],
    student: Config,
    arguments: list[str],
    output: Path,
    resolve_config: Callable[[list[str]], dict[str, Any]],
    digest_of: DigestOf,
    steps_of: StepsOf,
    log: Callable[[str], None],
) -> list[Path]:
    """Returns the checkpoints of one or several references.

    An experiment that is named several times is trained with several seeds. Arguments and errors are those of
    `resolve_teacher`.
    """
    names = [references] if isinstance(references, str) else references
    if not names:
        raise TeacherError("distillation.teacher is an empty list; name at least one teacher")
    seeds = [student["seed_everything"] + SEED_STEP * names[:index].count(name) for index, name in enumerate(names)]
    return [
        resolve_teacher(
            name, {**student, "seed_everything": seed}, arguments, output, resolve_config, digest_of, steps_of, log
        )
        for name, seed in zip(names, seeds, strict=True)
    ]


def resolve_teacher(
    reference: str,
    student: Config,
    arguments: list[str],
    output: Path,
    resolve_config: Callable[[list[str]], dict[str, Any]],
    digest_of: DigestOf,
    steps_of: StepsOf,
    log: Callable[[str], None],
) -> Path:
    """Returns the checkpoint of a reference to a teacher.

    An experiment is resolved to its best checkpoint, with the data and the seed of the student. If it has no finished
    run on these data, it is trained in a subprocess, so that the random numbers of the student do not depend on it,
    with the same loggers. Other processes that need the same teacher wait.

    Args:
        reference: A checkpoint, a run folder, an experiment file, several files joined by `+`, or an artifact of W&B as
            in `fetch_artifact`.
        student: Resolved settings of the student.
        arguments: Command-line arguments for the teacher's training, in addition to its experiment.
        output: Folder of all runs.
        resolve_config: Maps arguments of `fit` to resolved settings.
        digest_of: Returns the digest of the data with given settings; called only if there is a finished run.
        steps_of: Returns the number of steps of a training; called only if the teacher is trained.
        log: Prints a message to the user.

    Returns:
        Path of the checkpoint.

    Raises:
        TeacherError: The teacher does not exist, cannot be downloaded, or its training failed.
        TrainingInterrupted: Its training was stopped by a signal.
    """
    checkpoint = _existing_checkpoint(reference, output, log)
    if checkpoint is not None:
        return checkpoint
    experiment = _read_experiment(reference)
    shared: Config = {"data": student["data"], "seed_everything": student["seed_everything"]}
    if student["trainer"]["logger"]:
        shared["trainer"] = {"logger": student["trainer"]["logger"]}
    config = merge(experiment, shared)
    name = config["name"]
    fit_arguments = ["--config", json.dumps(config), *upgrade_arguments(arguments, config)]
    settings = resolve_config(fit_arguments)
    fingerprint = config_fingerprint(settings)
    data_digest = functools.cache(lambda: digest_of(settings["data"]))
    experiment_dir = output / name
    try:
        experiment_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(experiment_dir / f".{fingerprint}.lock")
        run = find_finished_run(experiment_dir, fingerprint, data_digest)
        if run is None:
            log(_reason_to_train(name, experiment_dir, fingerprint, data_digest))
            length = _length_of_training(settings, steps_of(settings))
            log(
                f"training the teacher {reference}{length}; its settings are changed with --teacher_args "
                f"{TEACHER_ARGS_EXAMPLE}"
            )
            with lock:
                run_dir = experiment_dir / f"seed{student['seed_everything']}-{fingerprint}"
                for candidate in sorted(experiment_dir.glob(f"{run_dir.name}*")):
                    # The parent of a process that trains it may have been killed.
                    wait_until_unlocked(candidate)
                run = find_finished_run(experiment_dir, fingerprint, data_digest)
                if run is None:
                    run = resumable_run_dir(run_dir, data_digest)
                    _train_teacher(fit_arguments, run, output)
    except OSError as error:
        raise write_error(experiment_dir, error) from error
    log(f"teacher: {run}")
    return best_checkpoint(run)


def _reason_to_train(name: str, experiment_dir: Path, fingerprint: str, data_digest: Callable[[], str | None]) -> str:
    """Returns the line that says why a teacher is trained."""
    run = find_finished_run(experiment_dir, fingerprint, lambda: None)
    message = None if run is None else other_data_message(f"the teacher {run}", stored_digest(run), data_digest())
    if message is None:
        return f"the teacher {name} ({fingerprint}) has no finished run: training it first"
    return f"{message}: training it again"


def _length_of_training(settings: Config, n_steps: int | None) -> str:
    """Returns the longest training that the settings allow, in words; empty if they set no limit."""
    n_epochs = settings["trainer"].get("max_epochs") if "trainer" in settings else None
    epochs = [f"{n_epochs:,} epochs"] if n_epochs is not None and n_epochs > 0 else []
    steps = [f"{n_steps:,} steps"] if n_steps is not None else []
    return f": at most {' or '.join(epochs + steps)}" if epochs + steps else ""


def locate_checkpoint(reference: str, output: Path, digest_of: DigestOf, log: Callable[[str], None]) -> Path:
    """Returns the checkpoint of a reference outside of an experiment.

    An experiment is trained with its own data and seed, in a subprocess, if it has no finished run on these data;
    other processes that need it wait.

    Args:
        reference: A checkpoint, a run folder, an experiment file, several files joined by `+`, or an artifact of W&B as
            in `fetch_artifact`.
        output: Folder of all runs.
        digest_of: Returns the digest of the data with given settings; called only if there is a finished run.
        log: Prints a message to the user.

    Returns:
        Path of the checkpoint.

    Raises:
        TeacherError: The teacher does not exist, cannot be downloaded, or its training failed.
        TrainingInterrupted: Its training was stopped by a signal.
    """
    checkpoint = _existing_checkpoint(reference, output, log)
    if checkpoint is not None:
        return checkpoint
    config = _read_experiment(reference)
    data_digest = functools.cache(lambda: digest_of(config["data"]))
    name, fingerprint = config["name"], config_fingerprint(config)
    run = output / name / f"seed{config.get('seed_everything', 0)}-{fingerprint}"
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(run.parent / f".{fingerprint}.lock"):
            wait_until_unlocked(run)
            resumable = resumable_run_dir(run, data_digest)
            if resumable != run:
                log(f"{other_data_message(f'the teacher {run}', stored_digest(run), data_digest())}: see {resumable}")
                run = resumable
                wait_until_unlocked(run)
            if not is_finished(run):
                log(f"the teacher {name} has no finished run: training it in {run} first")
                _train_teacher(["--config", json.dumps(config)], run, output)
    except OSError as error:
        raise write_error(run.parent, error) from error
    return best_checkpoint(run)


def _existing_checkpoint(reference: str, output: Path, log: Callable[[str], None]) -> Path | None:
    """Returns the checkpoint of a reference to a checkpoint, a run folder or an artifact; None for an experiment."""
    if reference.startswith(WANDB_PREFIX):
        return fetch_artifact(reference, output, log)
    path = Path(reference)
    if path.suffix in YAML_SUFFIXES:
        return None
    return best_checkpoint(path) if path.is_dir() else path


def _read_experiment(reference: str) -> Config:
    paths = split_reference(reference)
    for path in paths:
        if not find_config(path).exists():
            suggestion = suggest_composition(path)
            advice = f"write {suggestion}" if suggestion else suggest_file(path) or "check distillation.teacher"
            raise TeacherError(f"there is no teacher experiment {path}; {advice}")
    config = compose_experiment(paths)
    if is_overlay(config):
        raise TeacherError(
            f"{reference} has no data settings; write an experiment before it, as in EXPERIMENT.yaml+{reference}"
        )
    return config


def clean_environment() -> dict[str, str]:
    """Returns the environment variables of a process that trains independently of this process's launcher."""
    return {
        k: v for k, v in os.environ.items() if k not in DISTRIBUTED_VARIABLES and not k.startswith(LAUNCHER_PREFIXES)
    }


def _train_teacher(arguments: list[str], run: Path, output: Path) -> None:
    # In a file, because the settings may exceed the length of a command line.
    with atomic_file(run / "teacher.json") as file:
        file.write_text(arguments[1])
    command = [sys.executable, "-m", "blend_pl", "fit", "--config", str(run / "teacher.json"), *arguments[2:]]
    command += ["--run_dir", str(run), "--output", str(output), "--resume", "true"]
    status = _run_subprocess(command)
    if status in (TrainingInterrupted.status, *(-signum for signum in TERMINATION_SIGNALS)):
        raise TrainingInterrupted(
            "the training of the teacher was stopped by a signal; run the same command to continue"
        )
    if status != 0:
        raise TeacherError(
            f"teacher training failed (log above); fix the cause, or train it yourself with: {' '.join(command[2:])}"
        )


def _run_subprocess(command: list[str]) -> int:
    """Runs a command in a subprocess that ends with this process, and returns its exit status."""
    # A killed student releases the lock: its teacher must end before another student trains it.
    child_command = [sys.executable, "-m", "blend_pl.utils.child", str(os.getpid()), *command]
    with subprocess.Popen(child_command, env=clean_environment()) as process, handle_signals(process.send_signal):
        return process.wait()
