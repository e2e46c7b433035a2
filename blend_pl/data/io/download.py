"""Files found on disk or downloaded from an archive: resumed, verified by checksum, and safe in many processes."""

import glob
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from blend_pl.data.io.nwb_zarr import is_zarr
from blend_pl.errors import DataError, MissingFileError
from blend_pl.utils.files import md5, sha256, write_error

if TYPE_CHECKING:
    from requests import RequestException

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30

RETRY_DELAYS_S = (1, 2, 4, 8)
"""Pauses before repeated requests; the list starts again after each request that returned data."""

log = logging.getLogger(__name__)


def find_file(
    pattern: str, folder: Path, is_excluded: Callable[[tuple[str, ...]], bool] = lambda parts: False
) -> Path | None:
    """Returns the file at any depth below a folder that matches a pattern, or None.

    Hidden files are not searched, and several paths to one file count as one. A folder in Zarr counts as a file. A
    pattern with `[` or `?` is tried as a name with these characters first.

    Args:
        pattern: glob pattern.
        folder: the folder; need not exist.
        is_excluded: whether to skip a file, given the parts of its path below `folder`.

    Raises:
        DataError: several files match.
    """
    matches: dict[Path, Path] = {}
    for candidate in dict.fromkeys((re.sub(r"([\[?])", r"[\1]", pattern), pattern)):
        for name in sorted(glob.glob(os.path.join("**", candidate), root_dir=folder, recursive=True)):
            path = folder / name
            if (path.is_file() or is_zarr(path)) and not is_excluded(Path(name).parts):
                matches.setdefault(path.resolve(), path)
        if matches:
            break
    if len(matches) > 1:
        listing = ", ".join(str(path) for path in matches.values())
        raise DataError(f"several files match {pattern}: {listing}; narrow the pattern or move all but one away")
    return next(iter(matches.values()), None)


def get_json(url: str) -> Any:
    """Returns the JSON document at an address; exceptions of requests are not translated."""
    import requests

    response = requests.get(url, timeout=TIMEOUT_S)
    response.raise_for_status()
    return response.json()


def download_url(url: str, size: int, expected_md5: str, path: Path, label: str) -> None:
    """Downloads the file at an address to `path`; see `download_file`."""
    download_file(partial(stream_url, url), size, expected_md5, path, label, md5)


def download_file(
    stream_from: Callable[[int], Iterator[bytes]],
    size: int,
    expected_digest: str,
    path: Path,
    label: str,
    checksum: Callable[[Path], str] = sha256,
) -> None:
    """Downloads a file to `path`; exceptions of requests are not translated.

    An interrupted download leaves a hidden file in the folder of `path`, which this call or a later one resumes. The
    file appears under its name only after its checksum was verified.

    Args:
        stream_from: opens the file at an offset and yields its bytes.
        size: total number of bytes.
        expected_digest: expected result of `checksum`.
        path: destination.
        label: names the file in error messages.
        checksum: hex digest of a file.

    Raises:
        DataError: the digest is wrong, or `path` cannot be written.
    """
    import requests

    # The leading dot hides the file from glob patterns; the digest keeps another version from being resumed.
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
    """Yields the bytes of the file at an address from `offset` on; exceptions of requests are not translated."""
    import requests

    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        response.raise_for_status()
        if offset and response.status_code != requests.codes.partial_content:
            raise requests.ConnectionError("the server does not support resuming")
        yield from response.iter_content(CHUNK_BYTES)


@contextmanager
def translate_download_errors(label: str, url: str, manual_hint: str) -> Iterator[None]:
    """Raises a MissingFileError for every exception of requests inside the block.

    Args:
        label: names the download.
        url: address of the archive.
        manual_hint: how to do without the archive, e.g. "put the file into data by hand".
    """
    import requests

    try:
        yield
    except requests.RequestException as error:
        raise MissingFileError(
            f"cannot download {label}: {describe_failure(error)} at {url}; run again once it can be reached, "
            f"or {manual_hint}"
        ) from error


def describe_failure(error: "RequestException") -> str:
    """Returns a short description of a failed request: the HTTP status, or the kind of error."""
    return type(error).__name__ if error.response is None else f"HTTP status {error.response.status_code}"


@contextmanager
def download_lock(folder: Path) -> Iterator[None]:
    """Holds a folder's lock, so that one of several processes downloads while the others wait.

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
    """Appends the missing bytes to `partial_path`; reconnects until repeated requests return no data."""
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
            last_error: requests.RequestException = requests.ConnectionError("the server sent no data")
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
