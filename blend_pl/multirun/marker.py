"""What is kept of a run that was trained with others, until it is scored."""

import json
import math
from pathlib import Path
from typing import Any

from blend_pl.errors import DataError
from blend_pl.experiment import Experiment
from blend_pl.multirun.replica import Replica
from blend_pl.runs.folder import BEST_CHECKPOINT, CHECKPOINT_DIR
from blend_pl.utils.files import atomic_file, write_error

TRAINED_MARKER = "trained.json"


def write_marker(run_dir: Path, replica: Replica, cost: dict[str, float | int] | None) -> None:
    """Writes into a run's folder that it was trained, so that it is not trained again if its scoring is ended.

    Raises:
        DataError: it has failed, or the folder cannot be written.
    """
    selector = replica.selector
    if selector.failure:
        raise DataError(f"{run_dir}: {selector.failure}")
    if math.isnan(selector.best):
        raise DataError(f"{run_dir}: no {selector.checkpoint_monitor[0]} was ever a number; lower the learning rate")
    content = {
        "epoch": selector.epoch,
        "selected": selector.best,
        "cost": cost,
        "written": _checkpoint_mtime_ns(run_dir),
    }
    try:
        with atomic_file(run_dir / TRAINED_MARKER) as path:
            path.write_text(json.dumps(content))
    except OSError as error:
        raise write_error(run_dir, error) from error


def finalize(experiment: Experiment) -> None:
    """Scores a run that was trained with others and writes its results."""
    marker = read_marker(experiment.run_dir)
    assert marker is not None
    experiment.evaluate_and_save(
        experiment.run_dir / CHECKPOINT_DIR / BEST_CHECKPOINT, marker["epoch"], marker["selected"], marker["cost"]
    )
    (experiment.run_dir / TRAINED_MARKER).unlink()


def read_marker(run_dir: Path) -> dict[str, Any] | None:
    """What `note` wrote, if the checkpoint is still the one that it is of."""
    try:
        marker: dict[str, Any] = json.loads((run_dir / TRAINED_MARKER).read_text())
        return marker if marker["written"] == _checkpoint_mtime_ns(run_dir) else None
    except (OSError, ValueError, KeyError):
        return None


def _checkpoint_mtime_ns(run_dir: Path) -> int:
    """When the chosen checkpoint was written."""
    return (run_dir / CHECKPOINT_DIR / BEST_CHECKPOINT).stat().st_mtime_ns
