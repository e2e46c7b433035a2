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


class Figshare(LocalServer):
    """As much of the archive's REST interface as is asked for."""

    def __init__(self, content: dict[str, bytes]) -> None:
        super().__init__(Answer, "/v2")
        self.content = content
        self.digests = {name: hashlib.md5(data).hexdigest() for name, data in content.items()}
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None


class Answer(LocalAnswer):
    server: Figshare

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
            self.answer(200, json.dumps({"files": files}).encode())
        elif (name := self.path.rpartition("/")[2]) in self.server.content:
            start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") : -1])
            self.answer(206 if start else 200, self.server.content[name][start:])
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes) -> None:
        self.start(status, len(body))
        if len(body) < 2000:
            self.wfile.write(body)
            return
        cut, self.server.cut_after = self.server.cut_after, None
        self.wfile.write(body[:cut])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "tree"
    write_bugeon_dataset(SMALL, folder)
    return folder


@pytest.fixture
def figshare(tree: Path) -> Iterator[Figshare]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(tree.rglob("*")):
            archive.write(path, Path("dataset") / path.relative_to(tree))
    with serving(Figshare({"dataset.zip": packed.getvalue(), "README.txt": b"Read me."})) as server:
        yield server


def test_a_missing_tree_is_downloaded_and_unpacked(figshare: Figshare, tree: Path, tmp_path: Path) -> None:
    found = fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url)
    assert found == tmp_path / "figshare-19448531-v2" / "dataset"
    (recording,), (original,) = read_bugeon_dataset(PUBLISHED, found), read_bugeon_dataset(SPEC, tree)
    assert (recording.activity == original.activity).all()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["figshare-19448531-v2"]


def test_it_is_downloaded_once(figshare: Figshare, tmp_path: Path) -> None:
    first = fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url)
    asked = len(figshare.requests)
    assert fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url) == first
    assert len(figshare.requests) == asked


def test_an_interrupted_download_goes_on(figshare: Figshare, tmp_path: Path) -> None:
    figshare.cut_after = 400_000
    fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url)
    ranges = [asked for path, asked in figshare.requests if path.endswith(".zip")]
    assert ranges[0] is None
    assert ranges[1] == f"bytes={1 << 18}-"


def test_a_wrong_checksum_is_refused(figshare: Figshare, tmp_path: Path) -> None:
    figshare.digests["dataset.zip"] = "0" * 32
    with pytest.raises(DataError, match=r"dataset\.zip of figshare article 19448531, version 2 arrived") as raised:
        fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.rglob("*.zip"))


def test_a_pinned_checksum_counts_beside_the_archives(figshare: Figshare, tmp_path: Path) -> None:
    right = replace(ARCHIVE, md5={"dataset.zip": figshare.digests["dataset.zip"]})
    wrong = replace(ARCHIVE, md5={"dataset.zip": "f" * 32})
    with pytest.raises(DataError, match="MD5 digest"):
        fetch_bugeon_dataset(replace(SPEC, archive=wrong), tmp_path, figshare.url)
    assert fetch_bugeon_dataset(replace(SPEC, archive=right), tmp_path, figshare.url).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"version": 9}, r"HTTP status 404 at .*versions/9; run again .* by hand"), ({"article": 1}, "HTTP status 404")],
)
def test_unknown_versions_are_told(figshare: Figshare, tmp_path: Path, change: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fetch_bugeon_dataset(replace(SPEC, archive=replace(ARCHIVE, **change)), tmp_path, figshare.url)  # type: ignore[arg-type]


def test_without_network_the_error_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ConnectionError at .* put the tree into .*figshare-19448531-v2 by hand"):
        fetch_bugeon_dataset(PUBLISHED, tmp_path, "http://127.0.0.1:9/v2")


@pytest.mark.parametrize("depth", ["", "bugeon", "figshare-19448531-v2", "figshare-19448531-v2/dataset"])
def test_a_tree_put_there_by_hand_is_found(tree: Path, tmp_path: Path, depth: str) -> None:
    shutil.copytree(tree, tmp_path / depth, dirs_exist_ok=True)
    assert fetch_bugeon_dataset(PUBLISHED, tmp_path, "http://127.0.0.1:9/v2") == tmp_path / depth


@pytest.mark.parametrize("other", ["figshare-19448531-v1", "simulated/tree-1"])
def test_other_trees_are_left_alone(tree: Path, tmp_path: Path, other: str) -> None:
    shutil.copytree(tree, tmp_path / other)
    with pytest.raises(DataError, match="cannot download"):
        fetch_bugeon_dataset(PUBLISHED, tmp_path, "http://127.0.0.1:9/v2")


def test_without_an_archive_there_must_be_a_tree(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no tree with mice such as SB025"):
        fetch_bugeon_dataset(SPEC, tmp_path)


@pytest.mark.parametrize(
    ("packed", "name"),
    [
        *(("tar", "../outside.txt"), ("tar", "{folder}/outside.txt"), ("link", "../outside.txt")),
        *(("zip", "a/../../outside.txt"), ("zip", "{folder}/outside.txt"), ("file", "../outside.txt")),
    ],
)
def test_nothing_is_written_outside_of_the_folder(figshare: Figshare, tmp_path: Path, packed: str, name: str) -> None:
    name, content = name.format(folder=tmp_path), io.BytesIO()
    published = ["dataset.zip"]
    if packed == "zip":
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(name, "hi")
    elif packed == "file":
        published = [name, "outside.txt"]  # The second is where this server finds the first.
        content.write(b"hi")
    else:
        with tarfile.open(fileobj=content, mode="w") as archive:
            member = tarfile.TarInfo(name)
            if packed == "link":
                member = tarfile.TarInfo("link")
                member.type, member.linkname = tarfile.SYMTYPE, str(Path(name).parent)
                archive.addfile(member)
                member = tarfile.TarInfo("link/outside.txt")
            member.size = 2
            archive.addfile(member, io.BytesIO(b"hi"))
    del figshare.content["dataset.zip"]
    for each in published:
        figshare.content[each] = content.getvalue()
        figshare.digests[each] = hashlib.md5(content.getvalue()).hexdigest()
    with pytest.raises(DataError, match=r"cannot unpack|holds no neuron\.ttype\.txt"):
        fetch_bugeon_dataset(PUBLISHED, tmp_path / "data", figshare.url)
    outside = [path for path in tmp_path.rglob("outside.txt") if tmp_path / "data" not in path.parents]
    assert not outside


def test_an_article_without_a_tree_is_told(figshare: Figshare, tmp_path: Path) -> None:
    del figshare.content["dataset.zip"]
    with pytest.raises(DataError, match=r"holds no neuron\.ttype\.txt below mouse and date"):
        fetch_bugeon_dataset(PUBLISHED, tmp_path, figshare.url)
