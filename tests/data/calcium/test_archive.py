"""Tests of the search for the published tree and of its download."""

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.calcium import SPEC, TINY
from helpers.local_server import LocalAnswer, LocalServer, serving

from blend_pl.data.calcium.archive import fetch_bugeon_dataset
from blend_pl.data.calcium.simulation import write_bugeon_dataset
from blend_pl.data.calcium.spec import FigshareArchive
from blend_pl.data.calcium.tree import read_bugeon_dataset
from blend_pl.errors import DataError

ARCHIVE = FigshareArchive(19448531, 2)
PUBLISHED = replace(SPEC, archive=ARCHIVE)
SMALL = replace(TINY, n_mice=1, n_sessions=1, n_frames=2000)


class FigshareServer(LocalServer):
    """As much of the archive's REST interface as is n_requests for."""

    def __init__(self, content: dict[str, bytes]) -> None:
        super().__init__(FigshareHandler, "/v2")
        self.content = content
        self.digests = {name: hashlib.md5(data).hexdigest() for name, data in content.items()}
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None


class FigshareHandler(LocalAnswer):
    server: FigshareServer

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        if self.path == f"/v2/articles/{ARCHIVE.article}/versions/{ARCHIVE.version}":
            files = [
                {
                    "name": name,
                    "size": len(data),
                    "computed_md5": self.server.digests[name],
                    "download_url": f"{self.server.url}/files/{name}",
                }
                for name, data in self.server.content.items()
            ]
            self.send(200, json.dumps({"files": files}).encode())
        elif (name := self.path.rpartition("/")[2]) in self.server.content:
            start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") : -1])
            self.send(206 if start else 200, self.server.content[name][start:])
        else:
            self.send(404, b"")

    def send(self, status: int, body: bytes) -> None:
        self.start(status, len(body))
        if len(body) < 2000:
            self.wfile.write(body)
            return
        length, self.server.cut_after = self.server.cut_after, None
        self.wfile.write(body[:length])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "tree"
    write_bugeon_dataset(SMALL, folder)
    return folder


@pytest.fixture
def figshare(tree: Path) -> Iterator[FigshareServer]:
    archive_type = io.BytesIO()
    with zipfile.ZipFile(archive_type, "w") as archive:
        for path in sorted(tree.rglob("*")):
            archive.write(path, Path("dataset") / path.relative_to(tree))
    with serving(FigshareServer({"dataset.zip": archive_type.getvalue(), "README.txt": b"Read me."})) as server:
        yield server


def test_missing_tree_is_downloaded_and_unpacked(figshare: FigshareServer, tree: Path, tmp_path: Path) -> None:
    dataset_root = fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url)
    assert dataset_root == tmp_path / "figshare-19448531-v2" / "dataset"
    (recording,), (original,) = read_bugeon_dataset(PUBLISHED, dataset_root), read_bugeon_dataset(SPEC, tree)
    assert (recording.activity == original.activity).all()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["figshare-19448531-v2"]


def test_tree_is_downloaded_once(figshare: FigshareServer, tmp_path: Path) -> None:
    first = fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url)
    n_requests = len(figshare.requests)
    assert fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url) == first
    assert len(figshare.requests) == n_requests


def test_interrupted_download_is_resumed(figshare: FigshareServer, tmp_path: Path) -> None:
    figshare.cut_after = 400_000
    fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url)
    ranges = [byte_range for path, byte_range in figshare.requests if path.endswith(".zip")]
    assert ranges[0] is None
    assert ranges[1] == f"bytes={1 << 18}-"


def test_wrong_checksum_raises(figshare: FigshareServer, tmp_path: Path) -> None:
    figshare.digests["dataset.zip"] = "0" * 32
    with pytest.raises(DataError, match=r"dataset\.zip of figshare article 19448531, version 2 arrived") as error:
        fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.zip"))


def test_pinned_checksum_is_checked_in_addition_to_the_archives(figshare: FigshareServer, tmp_path: Path) -> None:
    right = replace(ARCHIVE, md5={"dataset.zip": figshare.digests["dataset.zip"]})
    wrong = replace(ARCHIVE, md5={"dataset.zip": "f" * 32})
    with pytest.raises(DataError, match="MD5 digest"):
        fetch_bugeon_dataset(replace(SPEC, archive=wrong), tmp_path, figshare.url)
    assert fetch_bugeon_dataset(replace(SPEC, archive=right), tmp_path, figshare.url).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"version": 9}, r"HTTP status 404 at .*versions/9; run again .* by hand"), ({"article": 1}, "HTTP status 404")],
)
def test_unknown_version_raises(figshare: FigshareServer, tmp_path: Path, change: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fetch_bugeon_dataset(replace(SPEC, archive=replace(ARCHIVE, **change)), tmp_path, figshare.url)  # type: ignore[arg-type]


def test_error_without_network_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ConnectionError at .* put the tree into .*figshare-19448531-v2 by hand"):
        fetch_bugeon_dataset(PUBLISHED, tmp_path, "http://127.0.0.1:9/v2")


@pytest.mark.parametrize("depth", ["", "bugeon", "figshare-19448531-v2", "figshare-19448531-v2/dataset"])
def test_tree_on_disk_is_found(tree: Path, tmp_path: Path, depth: str) -> None:
    shutil.copytree(tree, tmp_path / depth, dirs_exist_ok=True)
    assert fetch_bugeon_dataset(PUBLISHED, tmp_path, "http://127.0.0.1:9/v2") == tmp_path / depth


@pytest.mark.parametrize("other", ["figshare-19448531-v1", "simulated/tree-1"])
def test_trees_of_other_articles_and_simulations_are_ignored(tree: Path, tmp_path: Path, other: str) -> None:
    shutil.copytree(tree, tmp_path / other)
    with pytest.raises(DataError, match="cannot download"):
        fetch_bugeon_dataset(PUBLISHED, tmp_path, "http://127.0.0.1:9/v2")


def test_missing_tree_without_an_archive_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"contains no tree with mice such as SB025"):
        fetch_bugeon_dataset(SPEC, tmp_path)


@pytest.mark.parametrize(
    ("archive_type", "name"),
    [
        *(("tar", "../outside.txt"), ("tar", "{folder}/outside.txt"), ("link", "../outside.txt")),
        *(("zip", "a/../../outside.txt"), ("zip", "{folder}/outside.txt"), ("file", "../outside.txt")),
    ],
)
def test_archive_paths_outside_of_the_folder_are_rejected(
    figshare: FigshareServer, tmp_path: Path, archive_type: str, name: str
) -> None:
    name, content = name.format(folder=tmp_path), io.BytesIO()
    published = ["dataset.zip"]
    if archive_type == "zip":
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(name, "hi")
    elif archive_type == "file":
        published = [name, "outside.txt"]  # The server looks a file up by the last part of its URL.
        content.write(b"hi")
    else:
        with tarfile.open(fileobj=content, mode="w") as archive:
            member = tarfile.TarInfo(name)
            if archive_type == "link":
                member = tarfile.TarInfo("link")
                member.type, member.linkname = tarfile.SYMTYPE, str(Path(name).parent)
                archive.addfile(member)
                member = tarfile.TarInfo("link/outside.txt")
            member.size = 2
            archive.addfile(member, io.BytesIO(b"hi"))
    del figshare.content["dataset.zip"]
    for file_name in published:
        figshare.content[file_name] = content.getvalue()
        figshare.digests[file_name] = hashlib.md5(content.getvalue()).hexdigest()
    with pytest.raises(DataError, match=r"cannot unpack|contains no neuron\.ttype\.txt"):
        fetch_bugeon_dataset(PUBLISHED, tmp_path / "data", figshare.url)
    outside = [path for path in tmp_path.rglob("outside.txt") if tmp_path / "data" not in path.parents]
    assert not outside


def test_article_without_a_tree_raises(figshare: FigshareServer, tmp_path: Path) -> None:
    del figshare.content["dataset.zip"]
    with pytest.raises(DataError, match=r"contains no neuron\.ttype\.txt below mouse and date"):
        fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url)
