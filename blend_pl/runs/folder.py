"""Run folders: OUTPUT/EXPERIMENT/seed<SEED>-<FINGERPRINT>, with config, checkpoints and results."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from blend_pl.errors import ConfigError, DataError, TeacherError
from blend_pl.runs.results import RESULTS_FILE, Results
from blend_pl.utils.files import remove_partial_files, write_error

DEFAULT_OUTPUT = Path("runs")
"""Folder of all runs, relative to the working directory."""
CONFIG_FILE = "config.yaml"
CHECKPOINT_DIR = "checkpoints"
BEST_CHECKPOINT, LAST_CHECKPOINT = "best.ckpt", "last.ckpt"
DEFAULT_MONITOR, DEFAULT_MODE = "val/co_bps", "max"
"""Default score that selects the checkpoint, and whether its maximum or minimum is best."""
LOSS_MONITOR = "val/loss"
"""Masked validation loss, which selects the checkpoint where no unit is held out."""

TEACHER_ARGUMENTS = "teacher_args"
"""Setting with more arguments for the training of a missing teacher."""

FINGERPRINT_EXCLUDED_KEYS = (
    "config",
    "run_dir",
    "output",
    "ckpt_path",
    "weights_only",
    "name",
    "role",
    "resume",
)
"""Settings that label a run or say where it writes or continues, and do not change what it computes."""


def config_fingerprint(config: dict[str, Any]) -> str:
    """Returns eight hex digits that are equal for equal settings, regardless of folders, names and loggers.

    Arguments of the teacher's training, which change the teacher, count for runs that have a teacher.
    """
    settings = {key: value for key, value in config.items() if key not in FINGERPRINT_EXCLUDED_KEYS}
    if not (config.get("distillation") or config.get("pretrained")) or not config.get(TEACHER_ARGUMENTS):
        settings.pop(TEACHER_ARGUMENTS, None)
    if "trainer" in settings:
        settings["trainer"] = {**settings["trainer"], "logger": None}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def best_score_key(monitor: str) -> str:
    """Returns the name of the score of the selected checkpoint in `Results.selected`, in W&B and in sweeps."""
    return f"best/{monitor}"


def create_run_dir(folder: Path) -> Path:
    """Creates a new folder, with suffix -2, -3, ... if the name exists.

    Raises:
        DataError: the folder cannot be created.
    """
    candidate, suffix = folder, 2
    while True:
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            candidate, suffix = folder.with_name(f"{folder.name}-{suffix}"), suffix + 1
        except OSError as error:
            raise write_error(candidate, error) from error


def lock_run(run: Path) -> FileLock:
    """Locks the folder of a run, which is created if missing, so that only one process writes it.

    The lock ends when it is released or the process exits.

    Raises:
        ConfigError: another process holds the lock.
        DataError: the folder cannot be written.
    """
    lock = _run_lock(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        remove_partial_files(run / CHECKPOINT_DIR)
    except Timeout:
        raise ConfigError(f"another process is training {run}; wait for it or choose another --run_dir") from None
    except OSError as error:
        raise write_error(run, error) from error
    return lock


def wait_until_unlocked(run: Path) -> None:
    """Waits until no process holds the lock of a run; see `lock_run`."""
    if run.exists():
        with _run_lock(run):
            pass


def _run_lock(run: Path) -> FileLock:
    return FileLock(run / ".lock")


def is_finished(run: Path) -> bool:
    """Returns whether a run has results and the checkpoint that they belong to."""
    return (run / RESULTS_FILE).exists() and (run / CHECKPOINT_DIR / BEST_CHECKPOINT).exists()


def find_finished_run(experiment: Path, fingerprint: str, data_digest: Callable[[], str | None]) -> Path | None:
    """Returns a finished run with this fingerprint and of these data in the folder of an experiment, or None.

    Args:
        experiment: folder of the experiment.
        fingerprint: see `config_fingerprint`.
        data_digest: returns the digest of the data; None for data of any digest. It is called only if a run with this
            fingerprint holds a digest. Runs of version 0.1 hold none, and are found without.
    """
    for results_path in sorted(experiment.glob(f"*/{RESULTS_FILE}")):
        run = results_path.parent
        try:
            results = Results.read(run)
        except DataError:
            # A run with damaged results is skipped; at worst it is trained again.
            continue
        if results.fingerprint != fingerprint or not (run / CHECKPOINT_DIR / BEST_CHECKPOINT).exists():
            continue
        if results.digest is None or data_digest() in (results.digest, None):
            return run
    return None


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Returns all finished runs in folders, without duplicates.

    Args:
        folders: runs, experiments (folders of runs) or folders of experiments.

    Raises:
        DataError: a folder contains no finished run.
    """
    runs: dict[Path, Path] = {}
    for folder in folders:
        paths = [path.parent for pattern in ("", "*/", "*/*/") for path in sorted(folder.glob(pattern + RESULTS_FILE))]
        if not paths:
            raise DataError(
                f"{folder} holds no finished run (no {RESULTS_FILE}); name folders of runs or of experiments"
            )
        for path in paths:
            runs.setdefault(path.resolve(), path)
    return list(runs.values())


def best_checkpoint(run: Path) -> Path:
    """Returns the selected checkpoint of a run.

    Raises:
        TeacherError: the folder contains no finished run.
    """
    best = run / CHECKPOINT_DIR / BEST_CHECKPOINT
    if not best.exists():
        raise TeacherError(f"{run} holds no {CHECKPOINT_DIR}/{BEST_CHECKPOINT}; name the folder of a finished run")
    return best


def run_dir_of(checkpoint: Path) -> Path:
    """Returns the folder of the run of a checkpoint.

    Raises:
        ConfigError: the checkpoint is not in the folder of a run.
    """
    if checkpoint.parent.name != CHECKPOINT_DIR:
        raise ConfigError(
            f"{checkpoint} is not in the folder of a run; name a file in the {CHECKPOINT_DIR} folder of a run"
        )
    return checkpoint.parent.parent
