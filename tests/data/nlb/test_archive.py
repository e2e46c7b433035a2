"""Tests of locating recordings on disk and downloading them from DANDI."""

import hashlib
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
from helpers.archive_server import CONTENT, MAZE, TEST, TRAIN, Answer, FakeArchive
from helpers.local_server import serving

import blend_pl.data.io.download as download
from blend_pl.data.nlb.archive import download_dandi_file, locate_files
from blend_pl.data.nlb.spec import DandiArchive, SessionFiles
from blend_pl.errors import DataError

FILES = SessionFiles("*desc-train*.nwb", "*desc-test*.nwb")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeArchive]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "RETRY_DELAYS_S", (0, 0))
    with serving(FakeArchive()) as server:
        yield server


@pytest.fixture
def closed_url(monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a closed port."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/api"


def write(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def visible_names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


@pytest.mark.parametrize("folder", ["", "000128", "000128/sub-Jenkins", "mc_maze/sub-Jenkins", "a/b/c"])
@pytest.mark.parametrize("pattern", ["*desc-train*.nwb", "**/*desc-train*.nwb"])
def test_files_are_found_at_any_depth(tmp_path: Path, closed_url: str, folder: str, pattern: str) -> None:
    train = write(tmp_path / folder / Path(TRAIN).name)
    test = write(tmp_path / folder / Path(TEST).name)
    assert locate_files(SessionFiles(pattern, "*desc-test*.nwb"), tmp_path, MAZE, closed_url) == (train, test)
    assert locate_files(SessionFiles(pattern), tmp_path) == (train, None)


def test_pattern_with_folders_or_absolute_path(tmp_path: Path) -> None:
    path = write(tmp_path / "000128" / TRAIN)
    write(tmp_path / "000140" / "sub-Other" / path.name)
    assert locate_files(SessionFiles("sub-Jenkins/*train*.nwb"), tmp_path)[0] == path
    assert locate_files(SessionFiles(str(path)), tmp_path / "elsewhere")[0] == path


@pytest.mark.parametrize("name", ["session [1].nwb", "day [a-c]/s 1?.nwb", "Données [été]/x.nwb"])
@pytest.mark.parametrize("prefix", ["", "**/"])
def test_names_with_brackets_and_spaces_are_tried_before_patterns(tmp_path: Path, prefix: str, name: str) -> None:
    path = write(tmp_path / "a folder [2]" / name)
    write(tmp_path / "session 1.nwb")
    write(tmp_path / "day a" / "s 12.nwb")
    assert locate_files(SessionFiles(prefix + name), tmp_path)[0] == path


def test_brackets_are_patterns_where_no_file_has_them_in_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "day2.nwb")
    write(tmp_path / "day4.nwb")
    assert locate_files(SessionFiles("day[1-3].nwb"), tmp_path)[0] == path
    assert locate_files(SessionFiles("**/day[1-3].nwb"), tmp_path)[0] == path


def test_dandiset_of_the_spec_is_preferred_and_others_are_skipped(tmp_path: Path, server: FakeArchive) -> None:
    write(tmp_path / "000140" / TRAIN, b"small")
    assert locate_files(SessionFiles(FILES.train), tmp_path, MAZE, server.url)[0] == tmp_path / "000128" / TRAIN
    write(tmp_path / "copies" / TRAIN)
    assert locate_files(SessionFiles(FILES.train), tmp_path, MAZE, server.url)[0] == tmp_path / "000128" / TRAIN


def test_several_matching_files_are_listed(tmp_path: Path) -> None:
    paths = [write(tmp_path / name / "x_desc-train.nwb") for name in ("one", "two")]
    with pytest.raises(DataError, match=f"several files match .*: {paths[0]}, {paths[1]}; narrow"):
        locate_files(FILES, tmp_path)


def test_symlinked_folders_are_followed_and_files_counted_once(tmp_path: Path) -> None:
    write(tmp_path / "disk" / TRAIN)
    root = tmp_path / "root"
    root.mkdir()
    (root / "000128").symlink_to(tmp_path / "disk")
    (root / "again").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "disk")
    assert locate_files(SessionFiles(FILES.train), root)[0].read_bytes() == b""


def test_missing_file_without_archive_raises(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"no file matches \*desc-train\*\.nwb in {tmp_path}; put it there or set --data"
    ):
        locate_files(FILES, tmp_path)


def test_missing_files_are_downloaded_once(tmp_path: Path, server: FakeArchive) -> None:
    root = tmp_path / "data"
    train, test = locate_files(FILES, root, MAZE, server.url)
    assert (train, test) == (root / "000128" / TRAIN, root / "000128" / TEST)
    assert (train.read_bytes(), test.read_bytes()) == (CONTENT[TRAIN], CONTENT[TEST])
    assert visible_names(root) == sorted([train.name, test.name])
    server.requests.clear()
    assert locate_files(FILES, root, MAZE, server.url) == (train, test)
    assert download_dandi_file(MAZE, FILES.train, root / "000128", server.url) == train
    assert server.requests == []


def test_only_the_matching_file_is_downloaded(tmp_path: Path, server: FakeArchive) -> None:
    assert download_dandi_file(MAZE, "sub-Jenkins/*test*", tmp_path, server.url).read_bytes() == CONTENT[TEST]
    assert visible_names(tmp_path) == [Path(TEST).name]


def test_interrupted_connection_is_resumed(tmp_path: Path, server: FakeArchive) -> None:
    server.cut_after = [1_000_000, 0, 700_000]
    assert download_dandi_file(MAZE, FILES.train, tmp_path, server.url).read_bytes() == CONTENT[TRAIN]
    offsets = server.blob_offsets
    assert len(offsets) == 4
    assert 0 == offsets[0] < offsets[1] == offsets[2] < offsets[3] <= 1_700_000


def test_next_run_resumes_failed_download(tmp_path: Path, server: FakeArchive) -> None:
    server.cut_after = [1_000_000, 0, 0, 0]
    with pytest.raises(DataError, match=r"cannot download .*; run again .* put the file into .* by hand$"):
        download_dandi_file(MAZE, FILES.train, tmp_path, server.url)
    assert visible_names(tmp_path) == []
    server.blob_offsets.clear()
    assert download_dandi_file(MAZE, FILES.train, tmp_path, server.url).read_bytes() == CONTENT[TRAIN]
    assert len(server.blob_offsets) == 1
    assert server.blob_offsets[0] > 500_000
    assert [p.name for p in tmp_path.rglob(".*")] == [".download.lock"]


def test_partial_file_of_another_version_is_not_resumed(tmp_path: Path, server: FakeArchive) -> None:
    server.cut_after = [1_000_000, 0, 0, 0]
    with pytest.raises(DataError):
        download_dandi_file(MAZE, FILES.train, tmp_path, server.url)
    server.content[TRAIN] = bytes(2_000_000)
    server.digests[TRAIN] = hashlib.sha256(server.content[TRAIN]).hexdigest()
    assert download_dandi_file(MAZE, FILES.train, tmp_path, server.url).read_bytes() == server.content[TRAIN]


def test_file_with_wrong_checksum_is_deleted(tmp_path: Path, server: FakeArchive) -> None:
    good, server.content[TRAIN] = server.content[TRAIN], bytes(len(CONTENT[TRAIN]))
    with pytest.raises(DataError, match=r"arrived damaged and was deleted; run again"):
        download_dandi_file(MAZE, FILES.train, tmp_path, server.url)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [".download.lock"]
    server.content[TRAIN] = good
    assert download_dandi_file(MAZE, FILES.train, tmp_path, server.url).read_bytes() == good


def test_file_without_checksum_raises(tmp_path: Path, server: FakeArchive) -> None:
    del server.digests[TRAIN]
    with pytest.raises(DataError, match=r"cannot download .*dandi:sha2-256"):
        download_dandi_file(MAZE, FILES.train, tmp_path, server.url)
    assert visible_names(tmp_path) == []


def test_unreachable_archive_raises_quickly(tmp_path: Path, closed_url: str) -> None:
    begin = time.monotonic()
    with pytest.raises(DataError) as raised:
        locate_files(FILES, tmp_path, MAZE, closed_url)
    message = str(raised.value)
    for detail in (MAZE.dandiset, MAZE.version, FILES.train, str(tmp_path / "000128"), "by hand"):
        assert detail in message
    assert "\n" not in message
    assert time.monotonic() - begin < 5
    write(tmp_path / "000128" / "a_desc-train.nwb")
    write(tmp_path / "000128" / "a_desc-test.nwb")
    locate_files(FILES, tmp_path, MAZE, closed_url)


@pytest.mark.parametrize("wrong", [DandiArchive("999999", MAZE.version), DandiArchive(MAZE.dandiset, "0.1.2")])
def test_unknown_dandiset_or_version_raises(tmp_path: Path, server: FakeArchive, wrong: DandiArchive) -> None:
    with pytest.raises(DataError, match=rf"dandiset {wrong.dandiset}, version {wrong.version}: .* has no such version"):
        download_dandi_file(wrong, FILES.train, tmp_path, server.url)


def test_html_instead_of_json_raises(tmp_path: Path, server: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    def page(self: Answer) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>please log in</html>")

    monkeypatch.setattr(Answer, "do_GET", page)
    with pytest.raises(DataError, match="JSONDecodeError at http"):
        download_dandi_file(MAZE, FILES.train, tmp_path, server.url)


@pytest.mark.parametrize(("pattern", "problem"), [("*.csv", "no file matches"), ("*.nwb", "several files match")])
def test_several_or_no_matching_assets_raise(tmp_path: Path, server: FakeArchive, pattern: str, problem: str) -> None:
    with pytest.raises(DataError, match=rf"{problem} \(.*desc-train.*, .*desc-test.*\); correct the pattern"):
        download_dandi_file(MAZE, pattern, tmp_path, server.url)


@pytest.mark.parametrize("path", ["../escaped.nwb", "sub-X/../../escaped.nwb", "{outside}/escaped.nwb"])
def test_asset_path_outside_the_folder_raises(tmp_path: Path, server: FakeArchive, path: str) -> None:
    path = path.format(outside=tmp_path)
    server.content[path] = b"evil"
    server.digests[path] = hashlib.sha256(b"evil").hexdigest()
    with pytest.raises(DataError, match=r"would leave .*escaped\.nwb; it was not downloaded"):
        download_dandi_file(MAZE, "*escaped.nwb", tmp_path / "data" / "000128", server.url)
    assert visible_names(tmp_path) == []
    assert server.blob_offsets == []


def test_file_at_the_path_of_the_folder_raises(tmp_path: Path, closed_url: str) -> None:
    write(tmp_path / "000128")
    with pytest.raises(DataError, match=r"cannot write .*000128"):
        locate_files(FILES, tmp_path, MAZE, closed_url)


def test_full_disk_keeps_the_partial_file(tmp_path: Path, server: FakeArchive) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*desc-train.*: File too large; free space there"):
            download_dandi_file(MAZE, FILES.train, tmp_path, server.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert visible_names(tmp_path) == []
    server.blob_offsets.clear()
    assert download_dandi_file(MAZE, FILES.train, tmp_path, server.url).read_bytes() == CONTENT[TRAIN]
    assert server.blob_offsets[0] > 1_000_000


def test_missing_dandi_package_raises(tmp_path: Path, server: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dandi.dandiapi", None)
    with pytest.raises(DataError, match=r'dandi.* is not installed; run pip install "blend-pl\[dandi\]", or put'):
        download_dandi_file(MAZE, FILES.train, tmp_path, server.url)


def start_download(folder: Path, url: str) -> ForkProcess:
    process = get_context("fork").Process(target=download_dandi_file, args=(MAZE, FILES.train, folder, url))
    process.start()
    return process


def test_one_of_several_processes_downloads(tmp_path: Path, server: FakeArchive) -> None:
    server.slowness_s = 0.5
    processes = [start_download(tmp_path, server.url) for _ in range(3)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert server.blob_offsets == [0]
    assert (tmp_path / TRAIN).read_bytes() == CONTENT[TRAIN]


def test_download_is_resumed_after_kill(tmp_path: Path, server: FakeArchive) -> None:
    server.stall_after = 2_000_000
    process = start_download(tmp_path, server.url)
    assert server.stalled.wait(60)
    while not any(part.stat().st_size for part in tmp_path.rglob("*.part")):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert visible_names(tmp_path) == []
    server.stall_after = None
    server.blob_offsets.clear()
    assert download_dandi_file(MAZE, FILES.train, tmp_path, server.url).read_bytes() == CONTENT[TRAIN]
    assert server.blob_offsets[0] > 0
