"""Where a run lives: output/<experiment>/seed<seed>-<fingerprint>, with its config, checkpoints and results."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from blend_pl.errors import ConfigError, DataError, TeacherError
from blend_pl.runs.results import RESULTS_FILE, Results
from blend_pl.utils.files import remove_partial_files, write_error

CONFIG_FILE = "config.yaml"
CHECKPOINT_DIR = "checkpoints"
BEST_CHECKPOINT, LAST_CHECKPOINT = "best.ckpt", "last.ckpt"
DEFAULT_MONITOR, DEFAULT_MODE = "val/co_bps", "max"
"""The score that chooses the checkpoint, and which end of it is best, where nothing else is said."""

FINGERPRINT_EXCLUDED_KEYS = (
    "config",
    "run_dir",
    "output",
    "ckpt_path",
    "weights_only",
    "name",
    "role",
    "teacher_args",
    "resume",
)
"""Settings that label a run or say where it writes or continues, and do not change what it computes."""


def config_fingerprint(config: dict[str, Any]) -> str:
    """Eight letters that are the same for equal settings; where a run writes and who is told of it do not count."""
    settings = {key: value for key, value in config.items() if key not in FINGERPRINT_EXCLUDED_KEYS}
    if "trainer" in settings:
        settings["trainer"] = {**settings["trainer"], "logger": None}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def best_score_key(monitor: str) -> str:
    """The name of the chosen checkpoint's score, in results.json under `selected`, in W&B and in sweeps."""
    return f"best/{monitor}"


def create_run_dir(folder: Path) -> Path:
    """Makes a new folder of that name, or with a number behind it where the name is taken.

    Raises:
        DataError: the folder cannot be made.
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
    """Makes a run's folder if it is missing and holds it, so that no two live processes ever write one run.

    A process that was killed holds nothing. What is returned is held until it is released.

    Raises:
        ConfigError: another process holds it.
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
    """Waits until no process holds a run; see `claim`."""
    if run.exists():
        with _run_lock(run):
            pass


def _run_lock(run: Path) -> FileLock:
    return FileLock(run / ".lock")


def is_finished(run: Path) -> bool:
    """Whether a run has its results and the checkpoint that they are of."""
    return (run / RESULTS_FILE).exists() and (run / CHECKPOINT_DIR / BEST_CHECKPOINT).exists()


def find_finished_run(experiment: Path, fingerprint: str) -> Path | None:
    """The run with that fingerprint below an experiment's folder whose results and best checkpoint are there."""
    for results in sorted(experiment.glob(f"*/{RESULTS_FILE}")):
        run = results.parent
        try:
            stored_fingerprint = Results.read(run).fingerprint
        except DataError:
            # A damaged neighbour is no reason to stop: at worst this run is trained again.
            continue
        if stored_fingerprint == fingerprint and (run / CHECKPOINT_DIR / BEST_CHECKPOINT).exists():
            return run
    return None


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Finished runs, each once.

    Args:
        folders: runs, experiments (folders of runs) or folders of experiments.

    Raises:
        DataError: a folder holds no finished run.
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
    """The checkpoint that model selection chose.

    Raises:
        TeacherError: the folder holds no finished run.
    """
    best = run / CHECKPOINT_DIR / BEST_CHECKPOINT
    if not best.exists():
        raise TeacherError(f"{run} holds no {CHECKPOINT_DIR}/{BEST_CHECKPOINT}; name the folder of a finished run")
    return best


def run_dir_of(checkpoint: Path) -> Path:
    """The run that a checkpoint belongs to.

    Raises:
        ConfigError: it lies in no run.
    """
    if checkpoint.parent.name != CHECKPOINT_DIR:
        raise ConfigError(f"{checkpoint} lies in no run; name a file in the {CHECKPOINT_DIR} folder of a run")
    return checkpoint.parent.parent
