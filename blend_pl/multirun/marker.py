"""What is kept of a run that was trained with others, until it is scored."""

import json
import math
from pathlib import Path
from typing import Any

from blend_pl.errors import DataError
from blend_pl.multirun.build import Prepared
from blend_pl.multirun.replica import Member
from blend_pl.runs.folder import BEST, CHECKPOINTS
from blend_pl.utils.files import atomic_file, unwritable

TRAINED = "trained.json"


def note(run: Path, member: Member, cost: dict[str, float | int] | None) -> None:
    """Writes into a run's folder that it was trained, so that it is not trained again if its scoring is ended.

    Raises:
        DataError: it has failed, or the folder cannot be written.
    """
    selection = member.selection
    if selection.failure:
        raise DataError(f"{run}: {selection.failure}")
    if math.isnan(selection.best):
        raise DataError(f"{run}: no {selection.choosing[0]} was ever a number; lower the learning rate")
    content = {"epoch": selection.epoch, "selected": selection.best, "cost": cost, "written": _written(run)}
    try:
        with atomic_file(run / TRAINED) as path:
            path.write_text(json.dumps(content))
    except OSError as error:
        raise unwritable(run, error) from error


def conclude(run: Prepared) -> None:
    """Scores a run that was trained with others and writes its results."""
    kept = noted(run.run)
    assert kept is not None
    run.conclude(run.run / CHECKPOINTS / BEST, kept["epoch"], kept["selected"], kept["cost"])
    (run.run / TRAINED).unlink()


def noted(run: Path) -> dict[str, Any] | None:
    """What `note` wrote, if the checkpoint is still the one that it is of."""
    try:
        kept: dict[str, Any] = json.loads((run / TRAINED).read_text())
        return kept if kept["written"] == _written(run) else None
    except (OSError, ValueError, KeyError):
        return None


def _written(run: Path) -> int:
    """When the chosen checkpoint was written."""
    return (run / CHECKPOINTS / BEST).stat().st_mtime_ns
