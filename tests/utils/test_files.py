import os
import resource
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import h5py
import numpy as np
import pytest

from blend_pl.errors import DataError
from blend_pl.utils.files import atomic_file, atomic_folder, remove_partial_files, sha256, write_error


@pytest.fixture
def small_disk() -> Iterator[int]:
    """No file can grow beyond 64 KiB; writing fails as on a full disk."""
    limit = 1 << 16
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def umask() -> Iterator[int]:
    mask = 0o027
    before = os.umask(mask)
    yield mask
    os.umask(before)


def test_file_appears_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".json"
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_failure_keeps_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("former")

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_appears_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "session"
    with atomic_folder(path) as temporary:
        (temporary / "train.nwb").write_text("trials")
        assert not path.exists()
    assert (path / "train.nwb").read_text() == "trials"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "session"
    path.mkdir()
    (path / "mine").write_text("mine")
    with pytest.raises(DataError, match="cannot write"), atomic_folder(path) as temporary:
        (temporary / "other").write_text("other")
    assert [p.name for p in tmp_path.rglob("*")] == ["session", "mine"]


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
def test_file_in_place_of_the_folder(tmp_path: Path, atomic: Callable[[Path], AbstractContextManager[Path]]) -> None:
    (tmp_path / "occupied").write_text("")
    with pytest.raises(DataError, match=r"occupied.*choose another folder"), atomic(tmp_path / "occupied" / "x"):
        pass


def test_full_disk(tmp_path: Path, small_disk: int) -> None:
    def write() -> None:
        with atomic_file(tmp_path / "rates.bin") as temporary:
            temporary.write_bytes(bytes(2 * small_disk))

    with pytest.raises(DataError, match=r"cannot write .*rates\.bin: File too large; free space") as raised:
        write()
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_under_hdf5_is_told_on_one_line(tmp_path: Path, small_disk: int) -> None:

    def write() -> None:
        with atomic_file(tmp_path / "submission.h5") as temporary, h5py.File(temporary, "w") as file:
            file["rates"] = np.random.default_rng(0).random(small_disk)

    with pytest.raises(DataError, match="File too large") as raised:
        write()
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_reason_without_a_system_error_is_told_on_one_line() -> None:
    assert str(write_error(Path("x"), OSError("one\n two"))).startswith("cannot write x: one two;")


def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    with atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("")
    with atomic_folder(tmp_path / "folder"):
        pass
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = ["best.ckpt", ".lock", ".hidden", ".best.ckpt.part", ".x.0123456789ab-copy"]
    names = [*kept, ".best.ckpt.0123456789ab.ckpt", ".noend.0123456789ab"]
    for name in names:
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_remove_partial_files_matches_names_of_temporary_files(tmp_path: Path) -> None:

    def write() -> None:
        with atomic_file(tmp_path / "last.ckpt") as temporary:
            assert temporary.exists()
            remove_partial_files(tmp_path)
            assert not temporary.exists()

    with pytest.raises(DataError, match=r"cannot write .*last\.ckpt"):
        write()


def test_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "index.json"

    def write(text: str) -> None:
        for _ in range(20):
            with atomic_file(path) as temporary:
                temporary.write_text(text)

    texts = [letter * 10_000 for letter in "abcd"]
    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
