"""Search for the published tree on disk, and its download from figshare."""

import shutil
import tarfile
import zipfile
from pathlib import Path

from blend_pl.data.calcium.spec import CalciumSpec, FigshareArchive
from blend_pl.data.calcium.tree import CELL_TYPES_FILE
from blend_pl.data.io.download import download_lock, download_url, get_json, translate_download_errors
from blend_pl.errors import DataError
from blend_pl.utils.files import atomic_folder

API_URL = "https://api.figshare.com/v2"


def fetch_bugeon_dataset(spec: CalciumSpec, root: Path, api_url: str = API_URL) -> Path:
    """Returns the folder with the folders of the mice, below `root` or downloaded into it.

    An interrupted download is resumed. Files are stored only if their MD5 digests equal those of the archive, and those
    of the spec if there are any. One process downloads while others wait.

    Args:
        spec: specifies the archive.
        root: data folder.
        api_url: URL of the archive's REST interface.

    Raises:
        DataError: there is no tree on disk and no archive; there is no network; the article or version does not exist;
            a checksum is wrong; a folder cannot be written.
    """
    folder = None if spec.archive is None else root / f"figshare-{spec.archive.article}-v{spec.archive.version}"
    dataset_root = (folder and _find_dataset_root(folder)) or _find_dataset_root(root)
    if dataset_root is not None:
        return dataset_root
    if spec.archive is None or folder is None:
        raise DataError(
            f"{root} contains no tree with mice such as SB025; put it there or set --data.root to its folder"
        )
    with download_lock(root):
        if not folder.exists():
            _download_article(spec.archive, folder, api_url)
    dataset_root = _find_dataset_root(folder)
    if dataset_root is None:
        raise DataError(
            f"{folder} contains no {CELL_TYPES_FILE} below mouse and date; delete it, and check data.spec.archive"
        )
    return dataset_root


def _find_dataset_root(folder: Path) -> Path | None:
    """Searches up to two levels below a folder for that of the mice, except in simulated trees and other articles."""
    for prefix in ("", "*/", "*/*/"):
        for path in sorted(folder.glob(f"{prefix}*/*/{CELL_TYPES_FILE}")):
            candidate = path.parents[2]
            folder_names = candidate.relative_to(folder).parts
            if not any(name == "simulated" or name.startswith("figshare-") for name in folder_names):
                return candidate
    return None


def _download_article(archive: FigshareArchive, folder: Path, api_url: str) -> None:
    article_name = f"figshare article {archive.article}, version {archive.version}"
    url = f"{api_url}/articles/{archive.article}/versions/{archive.version}"
    partial_folder = folder.with_name(f".{folder.name}.part")
    with translate_download_errors(article_name, url, f"put the tree into {folder} by hand"):
        files = get_json(url)["files"]
        for file in files:
            published_md5, pinned_md5 = file["computed_md5"], archive.md5.get(file["name"])
            if pinned_md5 not in (None, published_md5):
                raise DataError(
                    f"{file['name']} of {article_name} has the MD5 digest {published_md5}, not {pinned_md5}; correct "
                    "data.spec.archive"
                )
            path = partial_folder / Path(file["name"]).name
            if not path.exists():
                label = f"{file['name']} of {article_name}"
                download_url(file["download_url"], file["size"], published_md5, path, label)
    with atomic_folder(folder) as temporary:
        for file in files:
            _unpack(partial_folder / Path(file["name"]).name, temporary)
    shutil.rmtree(partial_folder)


def _unpack(path: Path, folder: Path) -> None:
    """Copies a file, or extracts an archive, into the folder; paths outside of the folder are rejected."""
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
