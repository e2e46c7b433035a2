"""Where sessions lie: found on disk, or fetched once from Zenodo."""

from functools import partial
from pathlib import Path

from blend_pl.data.io.download import TIMEOUT_S, one_process, read_url, reason, transfer
from blend_pl.data.lfp.flint import flint_file
from blend_pl.data.lfp.spec import Archive
from blend_pl.errors import DataError
from blend_pl.utils.files import md5

API_URL = "https://zenodo.org/api"
FLINT_URL = "https://crcns.org/data-sets/movements/dream"


def makin_paths(session: str, root: Path, archive: Archive | None, api_url: str = API_URL) -> tuple[Path, Path]:
    """The `.mat` and the broadband `.nwb` of a session: below `root`, or downloaded into it.

    An interrupted download goes on where it stopped. A file appears only after its MD5 digest was found equal to the
    archive's. Of several processes one downloads while the others wait.

    Args:
        session: e.g. "indy_20160622_01".
        root: the data folder.
        archive: records that hold missing files; None for none.
        api_url: the archive's REST interface.

    Raises:
        DataError: a file is missing and there is no archive, or none of its records has it; no network; a wrong
            checksum; several files of that name; a folder that cannot be written.
    """
    mat, broadband = (_makin_path(f"{session}.{ending}", root, archive, api_url) for ending in ("mat", "nwb"))
    return mat, broadband


def flint_path(session: str, root: Path) -> Path:
    """The file of a Flint session below `root`.

    Raises:
        DataError: it is not there, or several are; the archive wants a login, so it must be fetched by hand.
    """
    name, _ = flint_file(session)
    found = _find(name, root)
    if found is None:
        raise DataError(f"there is no {name} in {root}; fetch it from {FLINT_URL} (a free account) and put it there")
    return found


def nwb_paths(patterns: list[str], root: Path) -> list[Path]:
    """Files that any of the patterns matches below `root`, ordered by path.

    Raises:
        DataError: a pattern matches nothing.
    """
    found: set[Path] = set()
    for pattern in patterns:
        try:
            matching = [path for path in root.glob(pattern) if path.is_file()]
        except (NotImplementedError, ValueError) as error:
            raise DataError(f"data.spec.nwb has {pattern!r}: {error}; write a pattern below data.root") from error
        if not matching:
            raise DataError(f"no file matches {pattern} in {root}; put it there, or set data.root or data.spec.nwb")
        found.update(matching)
    return sorted(found)


def _makin_path(name: str, root: Path, archive: Archive | None, api_url: str) -> Path:
    found = _find(name, root)
    if found is not None:
        return found
    if archive is None:
        raise DataError(
            f"there is no {name} in {root}; fetch it from https://zenodo.org/records/3854034 (.mat) or from the record "
            "of its broadband (.nwb) and put it there"
        )
    with one_process(root):
        return _find(name, root) or _download(name, root, archive, api_url)


def _find(name: str, root: Path) -> Path | None:
    """The file of that name at any depth; simulated ones are found in their own folder alone."""
    found = [path for path in sorted(root.rglob(name)) if "simulated" not in path.relative_to(root).parts]
    if len(found) > 1:
        several = ", ".join(str(path) for path in found)
        raise DataError(f"several files are named {name}: {several}; move all but one away")
    return found[0] if found else None


def _download(name: str, root: Path, archive: Archive, api_url: str) -> Path:
    import requests

    by_hand = f"or put it into {root} by hand"
    try:
        for record in archive.records:
            answer = requests.get(f"{api_url}/records/{record}", timeout=TIMEOUT_S)
            answer.raise_for_status()
            for file in answer.json()["files"]:
                if file["key"] == name:
                    path = root / f"zenodo-{record}" / name
                    digest = file["checksum"].removeprefix("md5:")
                    read = partial(read_url, file["links"]["self"])
                    transfer(read, file["size"], digest, path, f"{name} of Zenodo record {record}", md5)
                    return path
    except requests.RequestException as error:
        raise DataError(f"cannot download {name}: {reason(error)} at {api_url}; run again later, {by_hand}") from error
    records = ", ".join(map(str, archive.records))
    raise DataError(f"none of the Zenodo records {records} has {name}; correct data.spec.archive, {by_hand}")
