"""Atomic, one-time writes of simulated recordings."""

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
    """Writes a folder atomically unless it is already complete; safe across processes.

    Args:
        folder: a folder that is missing, empty or complete.
        description: description of the content for errors, for example "this simulated session".
        is_complete: returns whether the folder has the content.
        write: writes the content into a folder.

    Raises:
        DataError: the folder cannot be written or contains something else.
    """
    if is_complete():
        return
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder} contains something other than {description}; choose another folder or delete it")
    try:
        with atomic_folder(folder) as temporary:
            write(temporary)
    except DataError:
        # Another process may have written the same content first.
        if not is_complete():
            raise


def write_simulation_once(
    simulation: "DataclassInstance", folder: Path, description: str, write: Callable[[Path], None]
) -> None:
    """Writes simulated recordings and their parameters, as `SETTINGS_FILE`, into a folder; see `write_once`.

    Args:
        simulation: the parameters.
        folder: a folder that is missing, empty or contains the recordings of equal parameters.
        description: description of the content for errors, for example "this simulated session".
        write: writes the recordings into a folder.

    Raises:
        DataError: the folder cannot be written or contains something else.
    """
    settings = settings_json(simulation)

    def is_complete() -> bool:
        try:
            return (folder / SETTINGS_FILE).read_text() == settings
        except OSError:
            return False

    def write_with_settings(temporary: Path) -> None:
        write(temporary)
        # Written last, because its presence marks the folder as complete.
        (temporary / SETTINGS_FILE).write_text(settings)

    write_once(folder, description, is_complete, write_with_settings)


def settings_json(simulation: "DataclassInstance", generator_version: int | None = None) -> str:
    """Returns the JSON of a simulation's parameters, and of the generator's version if given."""
    version = {} if generator_version is None else {"generator": generator_version}
    return json.dumps({**version, **asdict(simulation)}, sort_keys=True)


def simulation_folder(root: Path, settings: str, prefix: str = "") -> Path:
    """Returns the folder of simulated recordings below a data folder, named by the hash of its settings.

    Args:
        root: the data folder.
        settings: settings as text, equal for equal simulations.
        prefix: start of the folder's name.
    """
    return root / "simulated" / f"{prefix}{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
