"""Atomic writes of tensors."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from blend_pl.utils.files import atomic_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def describe_fields(record: "DataclassInstance") -> str:
    """Returns a representation of a dataclass with the shapes and dtypes of tensors; fields that are None are omitted.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from blend_pl.utils.tensors import describe_fields
        >>> @dataclass
        ... class Pair:
        ...     values: torch.Tensor
        ...     size: int
        >>> describe_fields(Pair(torch.zeros(2, 3), 7))
        'Pair(values=float32 (2, 3), size=7)'
    """
    entries = []
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            entries.append(f"{field.name}={str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}")
        elif value is not None:
            entries.append(f"{field.name}={value!r}")
    return f"{type(record).__name__}({', '.join(entries)})"


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
