"""Files of tensors that appear whole or not at all."""

from pathlib import Path
from typing import Any

import torch

from blend_pl.utils.files import atomic_file


def atomic_save(content: Any, path: Path) -> None:
    """Writes what torch.save can, whole or not at all.

    Raises:
        DataError: the folder cannot be written or the disk is full; the file that was there before is kept.
    """
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # How torch reports a full disk; the system's own error is the context.
            raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from error
