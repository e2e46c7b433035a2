"""Atomic writes of tensors."""

from pathlib import Path
from typing import Any

import torch

from blend_pl.utils.files import atomic_file


def atomic_save(content: Any, path: Path) -> None:
    """Writes a file with torch.save, atomically.

    Raises:
        DataError: the folder cannot be written or the disk is full; a previous file is kept.
    """
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch reports a full disk like this; the error of the system is the context.
            raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from error
