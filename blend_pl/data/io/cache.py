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

from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import DataError
from blend_pl.utils.files import atomic_file, sha256, unwritable
from blend_pl.utils.tensors import save_tensors

FORMAT = 2
"""Raised whenever reading makes other tensors than before from the same recording and settings."""

log = logging.getLogger(__name__)

Restored = TypeVar("Restored")


Entry = dict[str, dict[str, Any]]
"""What a file of the cache holds: by name, tensors and plain values by name."""


def cached(
    folder: Path, files: Sequence[Path], settings: Mapping[str, Any], make: Callable[[], dict[str, SessionTensors]]
) -> dict[str, SessionTensors]:
    """Sessions that `make` returns, one a split; see `cached_entry`."""

    def entry() -> Entry:
        return {split: session.to_dict() for split, session in make().items()}

    def sessions(stored: Entry) -> dict[str, SessionTensors]:
        return {split: SessionTensors(**fields) for split, fields in stored.items()}

    return cached_entry(folder, files, settings, entry, sessions)


def cached_entry(
    folder: Path,
    files: Sequence[Path],
    settings: Mapping[str, Any],
    make: Callable[[], Entry],
    restore: Callable[[Entry], Restored],
) -> Restored:
    """What `make` returns, made once for the same file contents and settings and read from `folder` ever after.

    Tensors that are read are mapped into memory, so that processes share them; changing them does not change the file.
    Of several processes one makes the entry and the others wait for it. An entry that cannot be read is made anew.

    Args:
        folder: the cache folder; it may be read-only when it holds the entry.
        files: the recordings, in a fixed order. Their content counts, neither their path nor their time.
        settings: what else decides the result, e.g. `{"spec": spec, "bin_ms": 5}`: JSON values and dataclasses of them.
        make: reads and bins the recordings.
        restore: builds of the entry what is wanted; an entry that it fails on is made anew.

    Returns:
        What `restore` returns.

    Raises:
        DataError: a recording cannot be read, or the entry is missing and the folder cannot be written.
    """
    inputs = {"format": FORMAT, "files": _digests(files, folder), "settings": settings}
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=asdict).encode()).hexdigest()
    path = folder / f"{key}.pt"
    found = _read(path, restore)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(path.with_suffix(".lock")).acquire()
    except OSError as error:
        raise _named(unwritable(folder, error)) from error
    with held:
        found = _read(path, restore)
        if found is None:
            for leftover in folder.glob(f".{path.name}.*"):
                leftover.unlink(missing_ok=True)
            entry = make()
            _write(entry, path)
            found = restore(entry)
    return found


def _read(path: Path, restore: Callable[[Entry], Restored]) -> Restored | None:
    try:
        return restore(torch.load(path, weights_only=True, mmap=True))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:
        log.warning("cannot read the cache entry %s (%s); making it anew", path, str(error).partition("\n")[0])
        return None


def _write(entry: Entry, path: Path) -> None:
    # A view would be stored with all of its base.
    whole = {
        part: {name: value.clone() if isinstance(value, Tensor) else value for name, value in fields.items()}
        for part, fields in entry.items()
    }
    try:
        save_tensors(whole, path)
    except DataError as error:
        raise _named(error) from error


def _digests(files: Sequence[Path], folder: Path) -> list[str]:
    """SHA-256 digests of the files' content, remembered in the folder for as long as the files keep their stamp."""
    index = folder / "digests.json"
    known = _read_index(index)
    fresh: dict[str, str] = {}
    digests = []
    for file in files:
        try:
            stat = file.stat()
            stamp = f"{file.absolute()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
            if stamp not in known:
                fresh[stamp] = sha256(file)
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}; choose another file or mend its rights") from error
        digests.append((known | fresh)[stamp])
    if fresh:
        try:
            with atomic_file(index) as temporary:
                temporary.write_text(json.dumps(_read_index(index) | fresh))
        except DataError as error:
            log.info("the recordings' digests are not remembered: %s", error)
    return digests


def _read_index(index: Path) -> dict[str, str]:
    try:
        return {stamp: digest for stamp, digest in json.loads(index.read_text()).items() if isinstance(digest, str)}
    except (OSError, ValueError, AttributeError):
        return {}


def _named(error: DataError) -> DataError:
    return DataError(f"{error} with --data.cache_dir")
