"""A file from a server: resumed where it broke off, checked, whole or not at all, by one process."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from blend_pl.errors import DataError
from blend_pl.utils.files import sha256, unwritable

if TYPE_CHECKING:
    from requests import RequestException

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30

WAITS_S = (1, 2, 4, 8)
"""Pauses before asking anew, as long as that brings nothing."""

log = logging.getLogger(__name__)


def transfer(
    read_from: Callable[[int], Iterator[bytes]],
    size: int,
    digest: str,
    path: Path,
    name: str,
    checksum: Callable[[Path], str] = sha256,
) -> None:
    """Brings a file to `path`; errors of requests pass through.

    What arrives of an interrupted transfer is kept in a hidden file beside `path`, where this call or a later one goes
    on. The file appears under its name only after its digest was found right.

    Args:
        read_from: opens the file at an offset and yields its bytes.
        size: bytes in all.
        digest: what `checksum` makes of the whole file.
        path: where the file shall appear.
        name: what to call it.
        checksum: digest of a file in hex.

    Raises:
        DataError: the digest is wrong, or `path` cannot be written.
    """
    import requests

    # Hidden from every pattern, and never taken up by another version of the file.
    part = path.with_name(f".{path.name}.{digest[:12]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _complete(read_from, size, part, path.name)
        if checksum(part) != digest:
            part.unlink()
            raise DataError(f"{name} arrived damaged and was deleted; run again to download it")
        os.replace(part, path)
    except requests.RequestException:
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def read_url(url: str, start: int) -> Iterator[bytes]:
    """The bytes of a file on a server from `start` on; errors of requests pass through."""
    import requests

    headers = {"Range": f"bytes={start}-"} if start else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        answer.raise_for_status()
        if start and answer.status_code != requests.codes.partial_content:
            raise requests.ConnectionError("the server does not go on where it stopped")
        yield from answer.iter_content(CHUNK_BYTES)


def reason(error: "RequestException") -> str:
    """Why a server gave nothing, in a few words."""
    return type(error).__name__ if error.response is None else f"HTTP status {error.response.status_code}"


@contextmanager
def one_process(folder: Path) -> Iterator[None]:
    """Holds a folder's lock, so that of several processes one downloads while the others wait.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".download.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("another process downloads to %s; waiting for it", folder)
            lock.acquire()
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _complete(read_from: Callable[[int], Iterator[bytes]], size: int, part: Path, name: str) -> None:
    """Appends to `part` what it lacks, asking anew after a lost connection as long as that brings anything."""
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with part.open("ab") as file, Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(name, total=size, completed=file.tell())
        waits = iter(WAITS_S)
        while (start := file.tell()) < size:
            lost: requests.RequestException = requests.ConnectionError("the connection brought nothing")
            try:
                for chunk in read_from(start):
                    file.write(chunk)
                    progress.update(bar, completed=file.tell())
            except requests.RequestException as error:
                lost = error
            if file.tell() > start:
                waits = iter(WAITS_S)
                continue
            wait = next(waits, None)
            if wait is None:
                raise lost
            time.sleep(wait)
