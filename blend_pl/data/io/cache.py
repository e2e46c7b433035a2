"""Cache of preprocessed recordings on disk, addressed by the content of the source files."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock
from torch import Tensor

from blend_pl.data.io.content_files import content_files
from blend_pl.data.io.remote import RemoteFile
from blend_pl.errors import DataError
from blend_pl.utils.files import atomic_file, sha256, write_error
from blend_pl.utils.tensors import atomic_save

CACHE_FORMAT = 6
"""To be increased whenever reading gives other tensors for the same recording and settings, or entries change."""

log = logging.getLogger(__name__)

RestoredT = TypeVar("RestoredT")


CacheEntry = dict[str, dict[str, Any]]
"""Content of a cache file: section name to tensors and plain values by name."""


def cached_entry(
    folder: Path,
    files: Sequence[Path | RemoteFile],
    settings: Mapping[str, Any],
    build: Callable[[], CacheEntry],
    restore: Callable[[CacheEntry], RestoredT],
) -> RestoredT:
    """Returns the restored result of `build`, which is called once for the same file contents and settings.

    Tensors are memory-mapped, so that processes share them; changing them does not change the file. One of several
    processes writes the entry while the others wait. An unreadable entry is built again.

    Args:
        folder: cache folder; may be read-only if it contains the entry.
        files: recordings in a fixed order; their content is part of the key, their paths and times are not.
        settings: everything else that determines the result, e.g. `{"spec": spec, "bin_ms": 5}`: JSON values and
            dataclasses of them.
        build: reads and bins the recordings.
        restore: converts an entry to the result; an entry on which it fails is built again.

    Returns:
        The result of `restore`.

    Raises:
        DataError: a recording cannot be read, or the entry is missing and the folder cannot be written.
    """
    inputs = {"format": CACHE_FORMAT, "files": _file_digests(files, folder), "settings": settings}
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=asdict).encode()).hexdigest()
    path = folder / f"{key}.pt"
    restored = _read_entry(path, restore)
    if restored is not None:
        return restored
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except OSError as error:
        raise _with_cache_dir_hint(write_error(folder, error)) from error
    with lock:
        restored = _read_entry(path, restore)
        if restored is None:
            for leftover in folder.glob(f".{path.name}.*"):
                leftover.unlink(missing_ok=True)
            entry = build()
            _write_entry(entry, path)
            restored = restore(entry)
    return restored


def _read_entry(path: Path, restore: Callable[[CacheEntry], RestoredT]) -> RestoredT | None:
    try:
        return restore(torch.load(path, weights_only=True, mmap=True))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:
        log.warning("cannot read the cache entry %s (%s); building it again", path, str(error).partition("\n")[0])
        return None


def _write_entry(entry: CacheEntry, path: Path) -> None:
    # torch.save stores the whole storage of a view.
    contiguous = {
        section: {name: value.clone() if isinstance(value, Tensor) else value for name, value in fields.items()}
        for section, fields in entry.items()
    }
    try:
        atomic_save(contiguous, path)
    except DataError as error:
        raise _with_cache_dir_hint(error) from error


def _file_digests(files: Sequence[Path | RemoteFile], folder: Path) -> list[str]:
    """Returns the SHA-256 digests of files and those they link to; the index avoids hashing unchanged files again."""
    index_path = folder / "digests.json"
    cached_digests = _read_digest_index(index_path)
    new_digests: dict[str, str] = {}
    digests = []
    for file in (part for recording in files for part in content_files(recording)):
        if isinstance(file, RemoteFile):
            digests.append(file.digest())
            continue
        try:
            stat = file.stat()
            file_stamp = f"{file.absolute()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
            if file_stamp not in cached_digests:
                new_digests[file_stamp] = sha256(file)
        except OSError as error:
            raise DataError(
                f"cannot read {file}: {error.strerror}; choose another file or correct its permissions"
            ) from error
        digests.append((cached_digests | new_digests)[file_stamp])
    if new_digests:
        try:
            with atomic_file(index_path) as temporary:
                temporary.write_text(json.dumps(_read_digest_index(index_path) | new_digests))
        except DataError as error:
            log.info("the digests of the recordings are not stored: %s", error)
    return digests


def _read_digest_index(index_path: Path) -> dict[str, str]:
    try:
        return {
            file_stamp: digest
            for file_stamp, digest in json.loads(index_path.read_text()).items()
            if isinstance(digest, str)
        }
    except (OSError, ValueError, AttributeError):
        return {}


def _with_cache_dir_hint(error: DataError) -> DataError:
    return DataError(f"{error} with --data.cache_dir")
