"""Files that appear whole or not at all."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from blend_pl.errors import DataError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` and renames it to `path` on success.

    Args:
        path: where the file shall appear; its folder is made if missing.

    Raises:
        DataError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path` and renames it to `path` on success; `path` must not exist yet.

    Raises:
        DataError: the parent cannot be written, the disk is full, or `path` exists and is not empty.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path)
        temporary.mkdir()
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unwritable(path: Path, error: OSError) -> DataError:
    """The error for a path that cannot be written, with the system's reason on one line."""
    reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
    return DataError(f"cannot write {path}: {reason}; free space there or choose another folder")


def _beside(path: Path) -> Path:
    """A hidden name in the same folder that nobody else uses, with the same suffix."""
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}{path.suffix}")
