"""The published tree: found on disk, or fetched once from figshare."""

import hashlib
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from blend_pl.data.archive import one_process
from blend_pl.data.calcium.spec import Archive, CalciumSpec
from blend_pl.data.calcium.tree import CELLS
from blend_pl.errors import DataError
from blend_pl.files import atomic_folder, unwritable

API_URL = "https://api.figshare.com/v2"

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30


def fetch(spec: CalciumSpec, root: Path, api_url: str = API_URL) -> Path:
    """The folder that holds the mice's folders: below `root`, or downloaded into it.

    An interrupted download goes on with the file where it stopped. Files appear only after their MD5 digests were found
    equal to the archive's, and to those of the spec where it names any. Of several processes one downloads.

    Args:
        spec: the mice, and the article that holds them.
        root: the data folder.
        api_url: the archive's REST interface.

    Raises:
        DataError: nothing on disk and no archive; no network; no such article or version; a wrong checksum; a folder
            that cannot be written.
    """
    folder = None if spec.archive is None else root / f"figshare-{spec.archive.article}-v{spec.archive.version}"
    found = (folder and _tree(folder)) or _tree(root)
    if found is not None:
        return found
    if spec.archive is None or folder is None:
        raise DataError(f"{root} holds no tree with mice such as SB025; put it there or set --data.root to its folder")
    with one_process(root):
        if not folder.exists():
            _download(spec.archive, folder, api_url)
    found = _tree(folder)
    if found is None:
        raise DataError(f"{folder} holds no {CELLS} below mouse and date; delete it, and check data.spec.archive")
    return found


def _tree(folder: Path) -> Path | None:
    """The folder of the mice, or one at most two levels below it; neither simulated nor of another article's."""
    for depth in ("", "*/", "*/*/"):
        for path in sorted(folder.glob(f"{depth}*/*/{CELLS}")):
            top = path.parents[2]
            names = top.relative_to(folder).parts
            if not any(name == "simulated" or name.startswith("figshare-") for name in names):
                return top
    return None


def _download(archive: Archive, folder: Path, api_url: str) -> None:
    import requests

    url = f"{api_url}/articles/{archive.article}/versions/{archive.version}"
    try:
        answer = requests.get(url, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        files = answer.json()["files"]
        parts = folder.with_name(f".{folder.name}.part")
        try:
            parts.mkdir(parents=True, exist_ok=True)
            for file in files:
                _complete(file, parts / Path(file["name"]).name, archive)
            with atomic_folder(folder) as temporary:
                for file in files:
                    _unpack(parts / Path(file["name"]).name, temporary)
            shutil.rmtree(parts)
        except requests.RequestException:
            raise
        except OSError as error:
            raise unwritable(folder, error) from error
    except requests.RequestException as error:
        reason = type(error).__name__ if error.response is None else f"HTTP status {error.response.status_code}"
        raise DataError(
            f"cannot download figshare article {archive.article}, version {archive.version}: {reason} at {url}; run "
            f"again once it can be reached, or put the tree into {folder} by hand"
        ) from error


def _complete(file: dict[str, Any], path: Path, archive: Archive) -> None:
    """Appends to `path` what it lacks, and checks it; errors of requests pass through."""
    import requests

    start = path.stat().st_size if path.exists() else 0
    if start < file["size"]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        with requests.get(file["download_url"], headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            answer.raise_for_status()
            resumed = answer.status_code == requests.codes.partial_content
            with path.open("ab" if resumed else "wb") as part:
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    part.write(chunk)
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "md5").hexdigest()
    expected = {file["computed_md5"], archive.md5.get(file["name"], file["computed_md5"])}
    if expected != {digest}:
        path.unlink()
        raise DataError(
            f"{file['name']} of figshare article {archive.article}, version {archive.version}, has the MD5 digest "
            f"{digest}, not {' and '.join(sorted(expected))}, and was deleted; run again, or check data.spec.archive"
        )


def _unpack(path: Path, folder: Path) -> None:
    """Puts a file, or what an archive holds, into the folder; names that would leave it are refused."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        else:
            shutil.copy(path, folder / path.name)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise DataError(f"cannot unpack {path} ({error}); delete it and run again") from error
