"""Where recordings lie: found on disk, or fetched once from the DANDI archive."""

import glob
import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from blend_pl.data.io.download import CHUNK_BYTES, TIMEOUT_S, describe_failure, download_file, download_lock
from blend_pl.data.nlb.spec import DandiArchive, SessionFiles
from blend_pl.errors import DataError

if TYPE_CHECKING:
    from dandi.dandiapi import RemoteAsset

API_URL = "https://api.dandiarchive.org/api"


def locate_files(
    files: SessionFiles, root: Path, archive: DandiArchive | None = None, api_url: str = API_URL
) -> tuple[Path, Path | None]:
    """Finds the train and the test file, and downloads what is missing when an archive is given.

    A pattern may match at any depth below a folder; hidden files are left out. With an archive, `root/<dandiset>`,
    where downloads go, is searched first; then `root`, without the folders in it that are named like another dandiset.

    Args:
        files: glob patterns; each must match exactly one file.
        root: the data folder.
        archive: where missing files come from; None for files that only the user has.
        api_url: the archive's REST interface.

    Returns:
        The train file and the test file, the latter None where `files` names none.

    Raises:
        DataError: a pattern matches several files, or none that is on disk or can be downloaded.
    """
    train = _locate_file(files.train, root, archive, api_url)
    return train, None if files.test is None else _locate_file(files.test, root, archive, api_url)


def download_dandi_file(archive: DandiArchive, pattern: str, dandiset_folder: Path, api_url: str = API_URL) -> Path:
    """Downloads the one file of a dandiset that matches `pattern`, unless `dandiset_folder` holds it already.

    An interrupted download goes on where it stopped, in this call or a later one. The file appears under its name only
    after its SHA-256 digest was found equal to the archive's. Of several processes one downloads while the others wait.

    Args:
        archive: dandiset and version.
        pattern: glob pattern that matches at any depth.
        dandiset_folder: where the dandiset's files lie, each at the path below it that it has in the archive.
        api_url: the archive's REST interface.

    Returns:
        The file's path.

    Raises:
        DataError: no network; no such dandiset, version or file; several such files; a wrong checksum; a path that
            leaves the folder; a folder that cannot be written.
    """
    with download_lock(dandiset_folder):
        existing = _find_file(pattern, dandiset_folder)
        if existing is not None:
            return existing
        try:
            import requests
            from dandi.consts import DandiInstance
            from dandi.dandiapi import DandiAPIClient
            from dandi.exceptions import NotFoundError
        except ModuleNotFoundError as error:
            raise _download_error(
                archive, pattern, dandiset_folder, f"install the missing package {error.name}"
            ) from error
        # The client would otherwise ask a third party for its newest version.
        os.environ.setdefault("DANDI_NO_ET", "1")
        try:
            with DandiAPIClient(dandi_instance=DandiInstance("dandi", None, api_url)) as client:
                dandiset = client.get_dandiset(archive.dandiset, archive.version)
                # Asked plainly, because without network the client tries for a minute before it gives up.
                response = client.session.get(client.get_url(f"{dandiset.version_api_path}info/"), timeout=TIMEOUT_S)
                if response.status_code == requests.codes.not_found:
                    raise _download_error(
                        archive, pattern, dandiset_folder, f"{api_url} knows no such version; correct it"
                    )
                response.raise_for_status()
                return _download_asset(
                    _match_asset(list(dandiset.get_assets()), archive, pattern, dandiset_folder),
                    archive,
                    dandiset_folder,
                )
        except requests.RequestException as error:
            raise _download_error(
                archive,
                pattern,
                dandiset_folder,
                f"{describe_failure(error)} at {api_url}; run again once it can be reached",
            ) from error
        except NotFoundError as error:
            raise _download_error(archive, pattern, dandiset_folder, f"{error}; choose another version") from error


def _locate_file(pattern: str, root: Path, archive: DandiArchive | None, api_url: str) -> Path:
    if archive is None:
        match = _find_file(pattern, root)
        if match is None:
            raise DataError(f"no file matches {pattern} in {root}; put it there or set --data.root to its folder")
        return match
    folder = root / archive.dandiset
    match = _find_file(pattern, folder) or _find_file(pattern, root, archive.dandiset)
    return match or download_dandi_file(archive, pattern, folder, api_url)


def _find_file(pattern: str, folder: Path, dandiset: str | None = None) -> Path | None:
    """The file below `folder` that matches; with a `dandiset`, outside of the folders named like another one."""
    matches: dict[Path, Path] = {}
    for name in sorted(glob.glob(os.path.join("**", pattern), root_dir=folder, recursive=True)):
        top_folder = Path(name).parts[0]
        in_other_dandiset = dandiset is not None and top_folder != dandiset and re.fullmatch(r"\d{6}", top_folder)
        path = folder / name
        if path.is_file() and not in_other_dandiset:
            matches.setdefault(path.resolve(), path)
    if len(matches) > 1:
        listing = ", ".join(str(path) for path in matches.values())
        raise DataError(f"several files match {pattern}: {listing}; narrow the pattern or move all but one away")
    return next(iter(matches.values()), None)


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
    """Downloads an asset to its path below `dandiset_folder`; errors of requests pass through."""
    path = Path(os.path.abspath(dandiset_folder / asset.path))
    if Path(os.path.abspath(dandiset_folder)) not in path.parents:
        raise DataError(
            f"{_dandiset_label(archive)} holds a file that would leave {dandiset_folder}: {asset.path}; it was not downloaded"
        )
    digest = asset.get_raw_digest("dandi:sha2-256")
    download_file(
        asset.get_download_file_iter(chunk_size=CHUNK_BYTES),
        asset.size,
        digest,
        path,
        f"{asset.path} of {_dandiset_label(archive)}",
    )
    return path


def _dandiset_label(archive: DandiArchive) -> str:
    return f"dandiset {archive.dandiset}, version {archive.version}"


def _download_error(archive: DandiArchive, pattern: str, dandiset_folder: Path, problem: str) -> DataError:
    manual_hint = f"or put the file into {dandiset_folder} by hand"
    return DataError(f"cannot download {pattern} of {_dandiset_label(archive)}: {problem}, {manual_hint}")
