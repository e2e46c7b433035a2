"""Tests of recordings at an address."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.local_server import LocalAnswer, LocalServer, serving
from helpers.small_nwb import small_session, write_small

from blend_pl.data.io.nwb import open_nwb, read_time_series, read_units
from blend_pl.data.io.remote import RemoteFile
from blend_pl.data.nlb.archive import locate_files, resolve_dandi_asset
from blend_pl.data.nlb.spec import SessionFiles
from blend_pl.errors import DataError

SESSION = small_session(n_units=3, n_trials=4)


class FileServer(LocalServer):
    """Serves the files of a folder by ranges of bytes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(_RangeAnswer)
        self.folder = folder
        self.ignores_ranges = False


class _RangeAnswer(LocalAnswer):
    server: FileServer

    def do_GET(self) -> None:
        path = self.server.folder / self.path.removeprefix("/")
        if not path.is_file():
            self.start(404, 0)
            return
        content = path.read_bytes()
        if "Range" not in self.headers or self.server.ignores_ranges:
            self.start(200, len(content))
            self.wfile.write(content)
            return
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1 if last else None]
        stop = int(first) + len(part) - 1
        self.start(206, len(part), Content_Range=f"bytes {first}-{stop}/{len(content)}", ETag=f'"{hash(content)}"')
        self.wfile.write(part)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    write_small(tmp_path / "small.nwb", SESSION)
    with serving(FileServer(tmp_path)) as server:
        yield server


def test_remote_files_are_read_by_ranges(server: FileServer) -> None:
    pytest.importorskip("remfile")
    location, _ = locate_files(SessionFiles(f"{server.url}/small.nwb"), Path("none"))
    assert isinstance(location, RemoteFile)
    with open_nwb(location) as file:
        np.testing.assert_array_equal(read_units(file).times, np.concatenate(SESSION.spikes))
        np.testing.assert_array_equal(read_time_series(file, "hand_vel").data, SESSION.velocity)
    with pytest.raises(DataError, match=rf"^{location} has no time series 'pupil'"), open_nwb(location) as file:
        read_time_series(file, "pupil")


def test_digest_follows_the_content(server: FileServer) -> None:
    remote = RemoteFile(f"{server.url}/small.nwb")
    before = remote.digest()
    assert remote.digest() == before
    write_small(server.folder / "small.nwb", small_session(n_units=4, n_trials=4))
    assert remote.digest() != before


def test_missing_remote_file_raises(server: FileServer) -> None:
    pytest.importorskip("remfile")
    with pytest.raises(DataError, match="HTTP status 404") as caught, open_nwb(RemoteFile(f"{server.url}/absent.nwb")):
        pass
    assert "\n" not in str(caught.value)


def test_server_without_ranges_raises(server: FileServer) -> None:
    pytest.importorskip("remfile")
    server.ignores_ranges = True
    with pytest.raises(DataError, match="does not answer requests for a range of bytes"):  # noqa: SIM117
        with open_nwb(RemoteFile(f"{server.url}/small.nwb")):
            pass


def test_missing_remfile_raises(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "remfile", None)
    with pytest.raises(DataError, match="run pip install remfile"), open_nwb(RemoteFile(f"{server.url}/small.nwb")):
        pass


def test_dandi_locations_are_resolved_by_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    dandiapi = pytest.importorskip("dandi.dandiapi")
    calls: list[object] = []

    class Client:
        def __init__(self, **_: object) -> None: ...

        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None: ...

        def get_dandiset(self, *arguments: object) -> "Client":
            calls.append(arguments)
            return self

        def get_asset_by_path(self, path: str) -> "Client":
            if "absent" in path:
                raise dandiapi.NotFoundError("no asset")
            calls.append(path)
            return self

        def get_content_url(self, **_: object) -> str:
            return "https://host/blob"

    monkeypatch.setattr(dandiapi, "DandiAPIClient", Client)
    assert resolve_dandi_asset("dandi:000140/sub-a/b.nwb") == RemoteFile("https://host/blob")
    assert locate_files(SessionFiles("dandi:000140@0.1/c.nwb"), Path("none"))[0] == RemoteFile("https://host/blob")
    assert calls == [("000140", None), "sub-a/b.nwb", ("000140", "0.1"), "c.nwb"]
    with pytest.raises(DataError, match="correct dandiset, version or path"):
        resolve_dandi_asset("dandi:000140/absent.nwb")
    with pytest.raises(DataError, match="is no location in DANDI; write dandi:DANDISET/PATH"):
        resolve_dandi_asset("dandi:140/b.nwb")
