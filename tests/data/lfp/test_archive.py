"""Tests of the search for files of sessions and of their download."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.local_server import LocalAnswer, LocalServer, serving

from blend_pl.data.lfp.archive import flint_path, makin_paths
from blend_pl.data.lfp.spec import ZenodoArchive
from blend_pl.errors import DataError

SESSION = "indy_20160407_02"
RECORDS = {11: {f"{SESSION}.mat": b"m" * 9000, "other.mat": b"o"}, 12: {f"{SESSION}.nwb": b"n" * 300_000}}
ARCHIVE = ZenodoArchive([*RECORDS])


class ZenodoServer(LocalServer):
    """As much of the archive's REST interface as is requests for."""

    def __init__(self) -> None:
        super().__init__(ZenodoHandler, "/api")
        self.requests: list[str] = []
        self.damaged = False


class ZenodoHandler(LocalAnswer):
    server: ZenodoServer

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        path_parts = self.path.split("/")[2:]
        record = RECORDS.get(int(path_parts[1]))
        if record is None:
            self.send(404, b"")
        elif len(path_parts) == 2:
            self.send(200, json.dumps({"files": [self.file(path_parts[1], *item) for item in record.items()]}).encode())
        else:
            content = record[path_parts[3]]
            self.send(200, content[::-1] + b"x" if self.server.damaged else content)

    def file(self, record: str, name: str, content: bytes) -> dict[str, object]:
        return {
            "key": name,
            "size": len(content) + self.server.damaged,
            "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
            "links": {"self": f"{self.server.url}/records/{record}/files/{name}"},
        }

    def send(self, status: int, body: bytes) -> None:
        self.start(status, len(body))
        self.wfile.write(body)


@pytest.fixture
def zenodo() -> Iterator[ZenodoServer]:
    with serving(ZenodoServer()) as server:
        yield server


def test_missing_files_are_downloaded_once(zenodo: ZenodoServer, tmp_path: Path) -> None:
    mat, broadband = makin_paths(SESSION, tmp_path, ARCHIVE, zenodo.url)
    assert mat == tmp_path / "zenodo-11" / f"{SESSION}.mat"
    assert broadband == tmp_path / "zenodo-12" / f"{SESSION}.nwb"
    assert broadband.read_bytes() == RECORDS[12][f"{SESSION}.nwb"]
    n_requests = len(zenodo.requests)
    assert makin_paths(SESSION, tmp_path, ARCHIVE, zenodo.url) == (mat, broadband)
    assert len(zenodo.requests) == n_requests
    assert not list(tmp_path.rglob("other.mat"))


def test_files_on_disk_are_found_at_any_depth(tmp_path: Path) -> None:
    for name in (f"a/b/{SESSION}.mat", f"{SESSION}.nwb", f"simulated/x/{SESSION}.nwb", "c/Flint_2012_e2.mat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert makin_paths(SESSION, tmp_path, None) == (tmp_path / f"a/b/{SESSION}.mat", tmp_path / f"{SESSION}.nwb")
    assert flint_path("e2_3", tmp_path) == tmp_path / "c/Flint_2012_e2.mat"


def test_missing_file_raises_with_instructions(zenodo: ZenodoServer, tmp_path: Path) -> None:
    (tmp_path / "twice").mkdir()
    for folder in (tmp_path, tmp_path / "twice"):
        (folder / "Flint_2012_e1.mat").touch()
    cases = [
        (
            lambda: makin_paths(SESSION, tmp_path, None),
            r"there is no indy_20160407_02\.mat .*zenodo\.org/records/3854034",
        ),
        (lambda: makin_paths("indy_1", tmp_path, ARCHIVE, zenodo.url), r"none of the Zenodo records 11, 12 has indy_1"),
        (lambda: makin_paths(SESSION, tmp_path, ZenodoArchive([99]), zenodo.url), "HTTP status 404"),
        (lambda: makin_paths(SESSION, tmp_path, ARCHIVE, "http://127.0.0.1:9/api"), "ConnectionError .* by hand"),
        (lambda: flint_path("e2_1", tmp_path), r"there is no Flint_2012_e2\.mat in .*crcns\.org.*put it there"),
        (lambda: flint_path("e1_1", tmp_path), r"several files match Flint_2012_e1\.mat"),
    ]
    for call, message in cases:
        with pytest.raises(DataError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_wrong_checksum_raises(zenodo: ZenodoServer, tmp_path: Path) -> None:
    zenodo.damaged = True
    with pytest.raises(DataError, match=r"indy_20160407_02\.mat of Zenodo record 11 arrived damaged"):
        makin_paths(SESSION, tmp_path, ARCHIVE, zenodo.url)
    assert not list(tmp_path.rglob(f"{SESSION}.mat"))


@pytest.mark.parametrize("name", ["../../escaped.mat", "{folder}/escaped.mat"])
def test_archive_paths_outside_of_the_folder_are_ignored(
    zenodo: ZenodoServer, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECORDS, 11, {name.format(folder=tmp_path): b"evil", f"x/../{SESSION}.mat": b"evil"})
    with pytest.raises(DataError, match=rf"none of the Zenodo records 11, 12 has {SESSION}\.mat"):
        makin_paths(SESSION, tmp_path / "data", ARCHIVE, zenodo.url)
    assert not list(tmp_path.rglob("*.mat"))
