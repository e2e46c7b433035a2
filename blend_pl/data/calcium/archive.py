"""The published tree: found on disk, or fetched once from figshare."""

import shutil
import tarfile
import zipfile
from functools import partial
from pathlib import Path

from blend_pl.data.calcium.spec import Archive, CalciumSpec
from blend_pl.data.calcium.tree import CELLS
from blend_pl.data.io.download import TIMEOUT_S, one_process, read_url, reason, transfer
from blend_pl.errors import DataError
from blend_pl.utils.files import atomic_folder, md5

API_URL = "https://api.figshare.com/v2"


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

    name = f"figshare article {archive.article}, version {archive.version}"
    url = f"{api_url}/articles/{archive.article}/versions/{archive.version}"
    parts = folder.with_name(f".{folder.name}.part")
    try:
        answer = requests.get(url, timeout=TIMEOUT_S)
        answer.raise_for_status()
        files = answer.json()["files"]
        for file in files:
            published, pinned = file["computed_md5"], archive.md5.get(file["name"])
            if pinned not in (None, published):
                raise DataError(
                    f"{file['name']} of {name} has the MD5 digest {published}, not {pinned}; correct data.spec.archive"
                )
            path = parts / Path(file["name"]).name
            if not path.exists():
                read_from = partial(read_url, file["download_url"])
                transfer(read_from, file["size"], published, path, f"{file['name']} of {name}", md5)
    except requests.RequestException as error:
        raise DataError(
            f"cannot download {name}: {reason(error)} at {url}; run again once it can be reached, or put the tree into "
            f"{folder} by hand"
        ) from error
    with atomic_folder(folder) as temporary:
        for file in files:
            _unpack(parts / Path(file["name"]).name, temporary)
    shutil.rmtree(parts)


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
