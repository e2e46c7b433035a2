"""Binned sessions on disk, found again by the content of the recordings they were made from."""

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

from blend_pl.errors import DataError
from blend_pl.utils.files import atomic_file, sha256, write_error
from blend_pl.utils.tensors import atomic_save

CACHE_FORMAT = 3
"""Raised whenever reading makes other tensors than before from the same recording and settings."""

log = logging.getLogger(__name__)

RestoredT = TypeVar("RestoredT")


CacheEntry = dict[str, dict[str, Any]]
"""What a file of the cache holds: by name, tensors and plain values by name."""


def cached_entry(
    folder: Path,
    files: Sequence[Path],
    settings: Mapping[str, Any],
    build: Callable[[], CacheEntry],
    restore: Callable[[CacheEntry], RestoredT],
) -> RestoredT:
    """What `build` returns, made once for the same file contents and settings and read from `folder` ever after.

    Tensors that are read are mapped into memory, so that processes share them; changing them does not change the file.
    Of several processes one makes the entry and the others wait for it. An entry that cannot be read is made anew.

    Args:
        folder: the cache folder; it may be read-only when it holds the entry.
        files: the recordings, in a fixed order. Their content counts, neither their path nor their time.
        settings: what else decides the result, e.g. `{"spec": spec, "bin_ms": 5}`: JSON values and dataclasses of them.
        build: reads and bins the recordings.
        restore: builds of the entry what is wanted; an entry that it fails on is made anew.

    Returns:
        What `restore` returns.

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
        log.warning("cannot read the cache entry %s (%s); making it anew", path, str(error).partition("\n")[0])
        return None


def _write_entry(entry: CacheEntry, path: Path) -> None:
    # A view would be stored with all of its base.
    contiguous = {
        section: {name: value.clone() if isinstance(value, Tensor) else value for name, value in fields.items()}
        for section, fields in entry.items()
    }
    try:
        atomic_save(contiguous, path)
    except DataError as error:
        raise _with_cache_dir_hint(error) from error


def _file_digests(files: Sequence[Path], folder: Path) -> list[str]:
    """SHA-256 digests of the files' content, remembered in the folder for as long as the files keep their stamp."""
    index_path = folder / "digests.json"
    cached_digests = _read_digest_index(index_path)
    new_digests: dict[str, str] = {}
    digests = []
    for file in files:
        try:
            stat = file.stat()
            file_stamp = f"{file.absolute()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
            if file_stamp not in cached_digests:
                new_digests[file_stamp] = sha256(file)
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}; choose another file or mend its rights") from error
        digests.append((cached_digests | new_digests)[file_stamp])
    if new_digests:
        try:
            with atomic_file(index_path) as temporary:
                temporary.write_text(json.dumps(_read_digest_index(index_path) | new_digests))
        except DataError as error:
            log.info("the recordings' digests are not remembered: %s", error)
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
