"""Files that appear whole or not at all."""

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
    """Yields a temporary path beside `path` and renames it to `path` on success.

    Args:
        path: where the file shall appear; its folder is made if missing.

    Raises:
        DataError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    with _atomic_path(
        path, lambda new: new.touch(exist_ok=False), lambda new: new.unlink(missing_ok=True)
    ) as temporary:
        yield temporary


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path` and renames it to `path` on success; `path` must not exist yet.

    Raises:
        DataError: the parent cannot be written, the disk is full, or `path` exists and is not empty.
    """
    with _atomic_path(path, Path.mkdir, lambda new: shutil.rmtree(new, ignore_errors=True)) as temporary:
        yield temporary


def remove_partial_files(folder: Path) -> None:
    """Removes the temporary files of writers that were killed; no other process may be writing in the folder."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{12}(\..*)?", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """Hex digest of a file's content, for archives that publish no better one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def write_error(path: Path, error: OSError) -> DataError:
    """The error for a path that cannot be written, with the system's reason on one line."""
    reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
    return DataError(f"cannot write {path}: {reason}; free space there or choose another folder")


@contextmanager
def _atomic_path(path: Path, make: Callable[[Path], None], remove: Callable[[Path], None]) -> Iterator[Path]:
    """Yields something new beside `path` under a hidden name that nobody else uses, and renames it on success."""
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
