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
from blend_pl.utils.files import sha256, write_error

if TYPE_CHECKING:
    from requests import RequestException

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30

RETRY_DELAYS_S = (1, 2, 4, 8)
"""Pauses before asking anew, as long as that brings nothing."""

log = logging.getLogger(__name__)


def download_file(
    stream_from: Callable[[int], Iterator[bytes]],
    size: int,
    expected_digest: str,
    path: Path,
    label: str,
    checksum: Callable[[Path], str] = sha256,
) -> None:
    """Brings a file to `path`; errors of requests pass through.

    What arrives of an interrupted transfer is kept in a hidden file beside `path`, where this call or a later one goes
    on. The file appears under its name only after its digest was found right.

    Args:
        stream_from: opens the file at an offset and yields its bytes.
        size: bytes in all.
        expected_digest: what `checksum` makes of the whole file.
        path: where the file shall appear.
        label: what to call it.
        checksum: digest of a file in hex.

    Raises:
        DataError: the digest is wrong, or `path` cannot be written.
    """
    import requests

    # Hidden from every pattern, and never taken up by another version of the file.
    partial_path = path.with_name(f".{path.name}.{expected_digest[:12]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _resume_download(stream_from, size, partial_path, path.name)
        if checksum(partial_path) != expected_digest:
            partial_path.unlink()
            raise DataError(f"{label} arrived damaged and was deleted; run again to download it")
        os.replace(partial_path, path)
    except requests.RequestException:
        raise
    except OSError as error:
        raise write_error(path, error) from error


def stream_url(url: str, offset: int) -> Iterator[bytes]:
    """The bytes of a file on a server from `offset` on; errors of requests pass through."""
    import requests

    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        response.raise_for_status()
        if offset and response.status_code != requests.codes.partial_content:
            raise requests.ConnectionError("the server does not go on where it stopped")
        yield from response.iter_content(CHUNK_BYTES)


def describe_failure(error: "RequestException") -> str:
    """Why a server gave nothing, in a few words."""
    return type(error).__name__ if error.response is None else f"HTTP status {error.response.status_code}"


@contextmanager
def download_lock(folder: Path) -> Iterator[None]:
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
        raise write_error(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _resume_download(stream_from: Callable[[int], Iterator[bytes]], size: int, partial_path: Path, label: str) -> None:
    """Appends to `partial_path` what it lacks, asking anew after a lost connection as long as that brings anything."""
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
    with partial_path.open("ab") as file, Progress(*columns, console=Console(stderr=True)) as progress:
        task_id = progress.add_task(label, total=size, completed=file.tell())
        delays = iter(RETRY_DELAYS_S)
        while (offset := file.tell()) < size:
            last_error: requests.RequestException = requests.ConnectionError("the connection brought nothing")
            try:
                for chunk in stream_from(offset):
                    file.write(chunk)
                    progress.update(task_id, completed=file.tell())
            except requests.RequestException as error:
                last_error = error
            if file.tell() > offset:
                delays = iter(RETRY_DELAYS_S)
                continue
            delay = next(delays, None)
            if delay is None:
                raise last_error
            time.sleep(delay)
