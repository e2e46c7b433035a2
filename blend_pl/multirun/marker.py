"""Marker of a run that is trained but not yet evaluated."""

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
    """Marks a run as trained, so that an interrupted evaluation does not train it again.

    Args:
        run_dir: folder of the run.
        replica: trained replica of the run.
        cost: cost of training; None if no step was made.

    Raises:
        DataError: training of the replica failed, or the folder cannot be written.
    """
    selector = replica.selector
    if selector.failure:
        raise DataError(f"{run_dir}: {selector.failure}")
    if math.isnan(selector.best):
        raise DataError(
            f"{run_dir}: {selector.checkpoint_monitor[0]} was NaN or infinite at every validation; "
            "lower the learning rate"
        )
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
    """Evaluates a run with a marker, writes its results and deletes the marker."""
    marker = read_marker(experiment.run_dir)
    assert marker is not None
    experiment.evaluate_and_save(
        experiment.run_dir / CHECKPOINT_DIR / BEST_CHECKPOINT, marker["epoch"], marker["selected"], marker["cost"]
    )
    (experiment.run_dir / TRAINED_MARKER).unlink()


def read_marker(run_dir: Path) -> dict[str, Any] | None:
    """Returns the marker of a run; None if there is none or the checkpoint has changed since."""
    try:
        marker: dict[str, Any] = json.loads((run_dir / TRAINED_MARKER).read_text())
        return marker if marker["written"] == _checkpoint_mtime_ns(run_dir) else None
    except (OSError, ValueError, KeyError):
        return None


def _checkpoint_mtime_ns(run_dir: Path) -> int:
    """Returns the modification time of the best checkpoint."""
    return (run_dir / CHECKPOINT_DIR / BEST_CHECKPOINT).stat().st_mtime_ns
