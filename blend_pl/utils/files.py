"""Atomic writes of files and folders."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from blend_pl.errors import DataError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder and renames it to `path` on success.

    Args:
        path: the file to write; its folder is created if missing.

    Raises:
        DataError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    with _atomic_path(
        path, lambda new: new.touch(exist_ok=False), lambda new: new.unlink(missing_ok=True)
    ) as temporary:
        yield temporary


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder with the same parent and renames it to `path` on success; `path` must not exist yet.

    Raises:
        DataError: the parent cannot be written, the disk is full, or `path` exists and is not empty.
    """
    with _atomic_path(path, Path.mkdir, lambda new: shutil.rmtree(new, ignore_errors=True)) as temporary:
        yield temporary


def remove_partial_files(folder: Path) -> None:
    """Removes temporary files of killed processes; no other process may write in the folder meanwhile."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{12}(\..*)?", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Returns the SHA-256 hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """Returns the MD5 hex digest of a file, for archives that publish only this one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def write_error(path: Path, error: OSError) -> DataError:
    """Returns the error for a path that cannot be written, with the reason of the system on one line."""
    reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
    return DataError(f"cannot write {path}: {reason}; free space there or choose another folder")


@contextmanager
def _atomic_path(path: Path, make: Callable[[Path], None], remove: Callable[[Path], None]) -> Iterator[Path]:
    """Yields a new file or folder with a unique hidden name, and renames it on success."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        make(temporary)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        remove(temporary)
