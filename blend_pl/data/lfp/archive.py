"""Search for the files of sessions on disk, and their download from Zenodo."""

from pathlib import Path

from blend_pl.data.io.download import download_lock, download_url, find_file, get_json, translate_download_errors
from blend_pl.data.lfp.flint import parse_flint_session
from blend_pl.data.lfp.spec import ZenodoArchive
from blend_pl.errors import DataError

API_URL = "https://zenodo.org/api"
FLINT_URL = "https://crcns.org/data-sets/movements/dream"


def makin_paths(session: str, root: Path, archive: ZenodoArchive | None, api_url: str = API_URL) -> tuple[Path, Path]:
    """Returns the `.mat` and the broadband `.nwb` of a session, below `root` or downloaded into it.

    An interrupted download is resumed. A file is stored only if its MD5 digest equals that of the archive. One process
    downloads while others wait.

    Args:
        session: name of the session, e.g. "indy_20160622_01".
        root: data folder.
        archive: Zenodo records from which missing files are downloaded; None for no download.
        api_url: URL of the archive's REST interface.

    Raises:
        DataError: a file is missing and there is no archive, or none of its records has it; there is no network; a
            checksum is wrong; several files have the name; a folder cannot be written.
    """
    mat_path, broadband_path = (_makin_path(f"{session}.{suffix}", root, archive, api_url) for suffix in ("mat", "nwb"))
    return mat_path, broadband_path


def flint_path(session: str, root: Path) -> Path:
    """Returns the file of a Flint session below `root`.

    Raises:
        DataError: there is no such file, or several; it cannot be downloaded automatically because of a login.
    """
    name, _ = parse_flint_session(session)
    path = _find_file(name, root)
    if path is None:
        raise DataError(f"there is no {name} in {root}; download it from {FLINT_URL} (a free account) and put it there")
    return path


def _makin_path(name: str, root: Path, archive: ZenodoArchive | None, api_url: str) -> Path:
    path = _find_file(name, root)
    if path is not None:
        return path
    if archive is None:
        raise DataError(
            f"there is no {name} in {root}; download it from https://zenodo.org/records/3854034 (.mat) or from the "
            "record of its broadband (.nwb) and put it there"
        )
    with download_lock(root):
        return _find_file(name, root) or _download(name, root, archive, api_url)


def _find_file(name: str, root: Path) -> Path | None:
    """Returns the file of that name at any depth below `root`, outside the folders of simulated sessions."""
    return find_file(name, root, lambda parts: "simulated" in parts)


def _download(name: str, root: Path, archive: ZenodoArchive, api_url: str) -> Path:
    manual_hint = f"put it into {root} by hand"
    with translate_download_errors(name, api_url, manual_hint):
        for record in archive.records:
            for file in get_json(f"{api_url}/records/{record}")["files"]:
                if file["key"] == name:
                    path, label = root / f"zenodo-{record}" / name, f"{name} of Zenodo record {record}"
                    expected_md5 = file["checksum"].removeprefix("md5:")
                    download_url(file["links"]["self"], file["size"], expected_md5, path, label)
                    return path
    records = ", ".join(map(str, archive.records))
    raise DataError(f"none of the Zenodo records {records} has {name}; correct data.spec.archive, or {manual_hint}")
