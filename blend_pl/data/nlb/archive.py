"""Recordings of a session: found on disk, or downloaded once from the DANDI archive."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from blend_pl.data.io.download import (
    CHUNK_BYTES,
    TIMEOUT_S,
    download_file,
    download_lock,
    find_file,
    translate_download_errors,
)
from blend_pl.data.io.remote import RemoteFile
from blend_pl.data.nlb.spec import DandiArchive, SessionFiles
from blend_pl.errors import DataError, MissingFileError

if TYPE_CHECKING:
    from dandi.dandiapi import RemoteAsset

API_URL = "https://api.dandiarchive.org/api"


def locate_files(
    files: SessionFiles, root: Path, archive: DandiArchive | None = None, api_url: str = API_URL
) -> tuple[Path | RemoteFile, Path | RemoteFile | None]:
    """Finds the train and the test file, and downloads missing ones if an archive is given.

    A pattern may match at any depth below a folder; hidden files are skipped. With an archive, `root/<dandiset>`, the
    destination of downloads, is searched first; then `root`, except folders named like another dandiset.

    Args:
        files: glob patterns, each of which must match exactly one file; or addresses (https://... or
            dandi:DANDISET/PATH, dandi:DANDISET@VERSION/PATH), of which only the parts that are read are transferred.
        root: data folder.
        archive: source of missing files; None for none.
        api_url: REST interface of the archive.

    Returns:
        The train file and the test file, the latter None if `files` names none.

    Raises:
        DataError: a pattern matches several files.
        MissingFileError: it matches none on disk or in the archive.
    """
    train = _locate_file(files.train, root, archive, api_url)
    return train, None if files.test is None else _locate_file(files.test, root, archive, api_url)


def download_dandi_file(archive: DandiArchive, pattern: str, dandiset_folder: Path, api_url: str = API_URL) -> Path:
    """Downloads the one file of a dandiset that matches `pattern`, unless `dandiset_folder` contains it already.

    Interrupted downloads are resumed by this call or a later one. The file appears under its name only after its
    SHA-256 digest was verified. One of several processes downloads while the others wait.

    Args:
        archive: dandiset and version.
        pattern: glob pattern that matches at any depth.
        dandiset_folder: destination; files keep their paths in the archive.
        api_url: REST interface of the archive.

    Returns:
        The file's path.

    Raises:
        DataError: no network; no such dandiset, version or file; several such files; a wrong checksum; a path outside
            the folder; a folder that cannot be written.
    """
    with download_lock(dandiset_folder):
        existing = find_file(pattern, dandiset_folder)
        if existing is not None:
            return existing
        try:
            import requests
            from dandi.consts import DandiInstance
            from dandi.dandiapi import DandiAPIClient
            from dandi.exceptions import NotFoundError
        except ModuleNotFoundError as error:
            problem = f'{error.name} is not installed; run pip install "blend-pl[dandi]"'
            raise _download_error(archive, pattern, dandiset_folder, problem) from error
        # Keeps the client from querying a third party for its newest version.
        os.environ.setdefault("DANDI_NO_ET", "1")
        label = f"{pattern} of {_dandiset_label(archive)}"
        try:
            with (
                translate_download_errors(label, api_url, _manual_hint(dandiset_folder)),
                DandiAPIClient(dandi_instance=DandiInstance("dandi", None, api_url)) as client,
            ):
                dandiset = client.get_dandiset(archive.dandiset, archive.version)
                # A plain request: without network, the client's own methods retry for a minute.
                response = client.session.get(client.get_url(f"{dandiset.version_api_path}info/"), timeout=TIMEOUT_S)
                if response.status_code == requests.codes.not_found:
                    problem = f"{api_url} has no such version; correct it"
                    raise _download_error(archive, pattern, dandiset_folder, problem)
                response.raise_for_status()
                asset = _match_asset(list(dandiset.get_assets()), archive, pattern, dandiset_folder)
                return _download_asset(asset, archive, dandiset_folder)
        except NotFoundError as error:
            raise _download_error(archive, pattern, dandiset_folder, f"{error}; choose another version") from error


def resolve_dandi_asset(location: str, api_url: str = API_URL) -> RemoteFile:
    """Returns the address of a file in the DANDI archive.

    Args:
        location: dandi:DANDISET/PATH for the newest version, or dandi:DANDISET@VERSION/PATH.
        api_url: REST interface of the archive.

    Raises:
        DataError: the location has another form, there is no such file, or the archive cannot be reached.
    """
    match = re.fullmatch(r"dandi:(\d{6})(?:@([^/]+))?/(.+)", location)
    if match is None:
        raise DataError(f"{location} is no location in DANDI; write dandi:DANDISET/PATH, e.g. dandi:000140/sub-a/b.nwb")
    dandiset_id, version, path = match.groups()
    try:
        from dandi.consts import DandiInstance
        from dandi.dandiapi import DandiAPIClient
        from dandi.exceptions import NotFoundError
    except ModuleNotFoundError as error:
        raise DataError(f'{location} needs {error.name}; run pip install "blend-pl[dandi]"') from error
    os.environ.setdefault("DANDI_NO_ET", "1")
    try:
        with (
            translate_download_errors(location, api_url, "download the file and name its path"),
            DandiAPIClient(dandi_instance=DandiInstance("dandi", None, api_url)) as client,
        ):
            asset = client.get_dandiset(dandiset_id, version).get_asset_by_path(path)
            return RemoteFile(asset.get_content_url(follow_redirects=1, strip_query=True))
    except NotFoundError as error:
        raise DataError(f"there is no {location} ({error}); correct dandiset, version or path") from error


def _locate_file(pattern: str, root: Path, archive: DandiArchive | None, api_url: str) -> Path | RemoteFile:
    if pattern.startswith(("https://", "http://")):
        return RemoteFile(pattern)
    if pattern.startswith("dandi:"):
        return resolve_dandi_asset(pattern, api_url)
    if archive is None:
        match = find_file(pattern, root)
        if match is None:
            raise MissingFileError(
                f"no file matches {pattern} in {root}; put it there or set --data.root to its folder"
            )
        return match
    dandiset, folder = archive.dandiset, root / archive.dandiset

    def in_other_dandiset(parts: tuple[str, ...]) -> bool:
        return parts[0] != dandiset and re.fullmatch(r"\d{6}", parts[0]) is not None

    match = find_file(pattern, folder) or find_file(pattern, root, in_other_dandiset)
    return match or download_dandi_file(archive, pattern, folder, api_url)


def _match_asset(
    assets: "list[RemoteAsset]", archive: DandiArchive, pattern: str, dandiset_folder: Path
) -> "RemoteAsset":
    matching = [asset for asset in assets if PurePosixPath(asset.path).match(pattern.removeprefix("**/"))]
    if len(matching) != 1:
        names = ", ".join([asset.path for asset in matching or assets][:5]) or "none"
        problem = f"several files match ({names})" if matching else f"no file matches (there are {names})"
        raise _download_error(archive, pattern, dandiset_folder, f"{problem}; correct the pattern")
    return matching[0]


def _download_asset(asset: "RemoteAsset", archive: DandiArchive, dandiset_folder: Path) -> Path:
    """Downloads an asset to its path below `dandiset_folder`; exceptions of requests are not translated."""
    path, label = Path(os.path.abspath(dandiset_folder / asset.path)), _dandiset_label(archive)
    if Path(os.path.abspath(dandiset_folder)) not in path.parents:
        raise DataError(
            f"{label} has a file that would leave {dandiset_folder}: {asset.path}; it was not downloaded, choose "
            "another version"
        )
    digest = asset.get_raw_digest("dandi:sha2-256")
    stream = asset.get_download_file_iter(chunk_size=CHUNK_BYTES)
    download_file(stream, asset.size, digest, path, f"{asset.path} of {label}")
    return path


def _dandiset_label(archive: DandiArchive) -> str:
    return f"dandiset {archive.dandiset}, version {archive.version}"


def _manual_hint(dandiset_folder: Path) -> str:
    return f"put the file into {dandiset_folder} by hand"


def _download_error(archive: DandiArchive, pattern: str, dandiset_folder: Path, problem: str) -> MissingFileError:
    label = f"{pattern} of {_dandiset_label(archive)}"
    return MissingFileError(f"cannot download {label}: {problem}, or {_manual_hint(dandiset_folder)}")
