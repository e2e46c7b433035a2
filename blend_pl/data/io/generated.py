"""Simulated recordings on disk: written once, whole, whoever comes first."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from blend_pl.errors import DataError
from blend_pl.utils.files import atomic_folder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SETTINGS_FILE = "simulation.json"


def write_once(folder: Path, description: str, is_complete: Callable[[], bool], write: Callable[[Path], None]) -> None:
    """Writes a folder all at once, unless it holds already what is wanted; safe in many processes at once.

    Args:
        folder: missing, empty or holding what is wanted.
        description: to call it, as in "this simulated session".
        is_complete: whether the folder holds it.
        write: writes it into a folder.

    Raises:
        DataError: the folder cannot be written or holds something else.
    """
    if is_complete():
        return
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder} holds something other than {description}; choose another folder or delete it")
    try:
        with atomic_folder(folder) as temporary:
            write(temporary)
    except DataError:
        # Another process may have finished the same first.
        if not is_complete():
            raise


def write_simulation_once(
    simulation: "DataclassInstance", folder: Path, description: str, write: Callable[[Path], None]
) -> None:
    """The same for what is made of a simulation's parameters alone, which are written beside it; see `write_once`."""
    settings = settings_json(simulation)

    def is_complete() -> bool:
        try:
            return (folder / SETTINGS_FILE).read_text() == settings
        except OSError:
            return False

    def write_with_settings(temporary: Path) -> None:
        write(temporary)
        # Written last: all is complete where this file is.
        (temporary / SETTINGS_FILE).write_text(settings)

    write_once(folder, description, is_complete, write_with_settings)


def settings_json(simulation: "DataclassInstance") -> str:
    """JSON of a simulation's parameters."""
    return json.dumps(asdict(simulation), sort_keys=True)


def simulation_folder(root: Path, settings: str, prefix: str = "") -> Path:
    """The folder below a data folder of what is simulated with these settings.

    Args:
        root: the data folder.
        settings: equal for equal simulations.
        prefix: what the folder's name begins with.
    """
    return root / "simulated" / f"{prefix}{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
