"""Tests of the cache of preprocessed recordings."""

import errno
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from filelock import FileLock
from torch import Tensor

import blend_pl.data.io.cache as cache
from blend_pl.data.nlb.session import SessionTensors, cached_sessions, group_columns, session_digest
from blend_pl.data.nlb.spec import BehaviorSpec, SessionFiles, SessionSpec, WindowSpec
from blend_pl.errors import DataError

SPEC = SessionSpec("mine", SessionFiles("*.nwb"), WindowSpec(-250, 450), BehaviorSpec("hand_vel", 100))


def session(trials: int = 4) -> SessionTensors:
    n = 3 * trials
    return SessionTensors(
        spikes=torch.arange(n * 2, dtype=torch.uint8).reshape(trials, 3, 2),
        observed=torch.ones(trials, 3, 2, dtype=torch.bool),
        scoring_mask=torch.ones(trials, 2, dtype=torch.bool),
        behavior=torch.full((trials, 3, 1), torch.nan),
        trial_id=torch.arange(trials),
        start_bin=torch.arange(trials) * 3,
        jitter=torch.zeros(trials, dtype=torch.int64),
        condition=torch.full((trials,), -1),
        decode_mask=torch.ones(trials, 1, dtype=torch.bool),
        timing_condition=torch.full((trials,), -1),
        produced_interval=torch.full((trials,), torch.nan, dtype=torch.float64),
        psth=torch.empty(0, 2, 2, dtype=torch.float64),
        unit_id=torch.tensor([7, 3]),
        observed_column=group_columns(1, 2),
        n_heldin=1,
        n_forward=1,
        n_series=1,
        bin_ms=5,
    )


def equal_sessions(a: dict[str, SessionTensors], b: dict[str, SessionTensors]) -> bool:
    def equal(x: Tensor | int, y: Tensor | int) -> bool:
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            return x.dtype == y.dtype and torch.allclose(x.double(), y.double(), rtol=0, atol=0, equal_nan=True)
        return x == y

    return list(a) == list(b) and all(
        equal(value, b[split].to_dict()[name]) for split in a for name, value in a[split].to_dict().items()
    )


class CountingBuilder:
    """Builds sessions and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, SessionTensors]:
        self.calls += 1
        return {"train": session(), "val": session(2)}


@pytest.fixture
def build() -> CountingBuilder:
    return CountingBuilder()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "session.nwb"
    path.write_bytes(b"spikes")
    return path


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.pt") if not path.name.startswith("."))


def test_second_call_reads_the_entry(tmp_path: Path, recording: Path, build: CountingBuilder) -> None:
    results = [cached_sessions(tmp_path / "cache", [recording], {"spec": SPEC, "bin_ms": 5}, build) for _ in range(2)]
    assert build.calls == 1
    assert equal_sessions(results[0].sessions, results[1].sessions)
    assert equal_sessions(results[1].sessions, build())
    assert results[0].digests == results[1].digests == {name: session_digest(part) for name, part in build().items()}


def test_changing_a_read_tensor_does_not_change_the_entry(
    tmp_path: Path, recording: Path, build: CountingBuilder
) -> None:
    for _ in range(2):
        cached_sessions(tmp_path, [recording], {}, build).sessions["train"].spikes.fill_(99)
    assert equal_sessions(cached_sessions(tmp_path, [recording], {}, build).sessions, build())


def test_view_is_stored_without_its_base(tmp_path: Path, recording: Path) -> None:
    base = torch.zeros(1000, 1000, 2, dtype=torch.uint8)
    cached_sessions(tmp_path, [recording], {}, lambda: {"train": replace(session(), spikes=base[:4, :3])})
    assert entries(tmp_path)[0].stat().st_size < 20_000


@pytest.mark.parametrize(
    "change",
    [
        {"spec": replace(SPEC, window=WindowSpec(-250, 455))},
        {"spec": replace(SPEC, behavior=replace(SPEC.behavior, lag_ms=120))},
        {"spec": replace(SPEC, behavior=None)},
        {"bin_ms": 20},
        {"phase": "test"},
    ],
    ids=str,
)
def test_other_settings_give_another_entry(
    tmp_path: Path, recording: Path, build: CountingBuilder, change: dict
) -> None:
    settings = {"spec": SPEC, "bin_ms": 5}
    cached_sessions(tmp_path, [recording], settings, build)
    cached_sessions(tmp_path, [recording], settings | change, build)
    cached_sessions(tmp_path, [recording], settings, build)
    assert build.calls == len(entries(tmp_path)) == 2


def test_other_content_of_equal_size_and_time_gives_another_entry(
    tmp_path: Path, recording: Path, build: CountingBuilder
) -> None:
    cached_sessions(tmp_path, [recording], {}, build)
    before = recording.stat()
    time.sleep(0.02)
    recording.write_bytes(b"SPIKES")
    os.utime(recording, ns=(before.st_atime_ns, before.st_mtime_ns))
    cached_sessions(tmp_path, [recording], {}, build)
    assert build.calls == 2


def test_another_format_gives_another_entry(
    tmp_path: Path, recording: Path, build: CountingBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_sessions(tmp_path, [recording], {}, build)
    monkeypatch.setattr(cache, "CACHE_FORMAT", cache.CACHE_FORMAT + 1)
    cached_sessions(tmp_path, [recording], {}, build)
    assert build.calls == 2


def test_train_and_test_file_are_not_interchangeable(tmp_path: Path, recording: Path, build: CountingBuilder) -> None:
    other = tmp_path / "other.nwb"
    other.write_bytes(b"other")
    for files in ([recording, other], [other, recording], [recording]):
        cached_sessions(tmp_path / "cache", files, {}, build)
    assert build.calls == 3


def test_paths_and_times_are_not_part_of_the_key(tmp_path: Path, recording: Path, build: CountingBuilder) -> None:
    cached_sessions(tmp_path / "cache", [recording], {"spec": SPEC}, build)
    os.utime(recording, (1, 1))
    cached_sessions(tmp_path / "cache", [recording], {"spec": SPEC}, build)
    moved = tmp_path / "elsewhere" / "renamed.nwb"
    moved.parent.mkdir()
    recording.rename(moved)
    cached_sessions(tmp_path / "cache", [moved], {"spec": SPEC}, build)
    assert build.calls == 1


def test_unchanged_file_is_not_hashed_again(
    tmp_path: Path, recording: Path, build: CountingBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(cache, "sha256", lambda path: hashed.append(path) or path.read_bytes().hex())
    other = tmp_path / "other.nwb"
    other.write_bytes(b"other")
    for files in ([recording], [recording, other], [recording, other]):
        cached_sessions(tmp_path / "cache", files, {}, build)
    assert hashed == [recording, other]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', "\udcff"])
def test_damaged_index_is_ignored(tmp_path: Path, recording: Path, build: CountingBuilder, content: str) -> None:
    cached_sessions(tmp_path, [recording], {}, build)
    (tmp_path / "digests.json").write_bytes(content.encode(errors="surrogateescape"))
    cached_sessions(tmp_path, [recording], {}, build)
    assert build.calls == 1


class Payload:
    """Creates a file when it is unpickled with arbitrary classes allowed."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other fields", "other shape", "pickle"])
def test_damaged_entry_is_built_again(
    tmp_path: Path, recording: Path, build: CountingBuilder, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder, marker = tmp_path / "cache", tmp_path / "executed"
    cached_sessions(folder, [recording], {}, build)
    (entry,) = entries(folder)
    content = entry.read_bytes()
    match damage:
        case "truncated":
            entry.write_bytes(content[: len(content) // 2])
        case "empty":
            entry.write_bytes(b"")
        case "text":
            entry.write_text("not an entry")
        case "other fields":
            torch.save({"train": {"spikes": torch.zeros(2)}}, entry)
        case "other shape":
            torch.save([1, 2], entry)
        case "pickle":
            torch.save({"train": Payload(marker)}, entry)
    with caplog.at_level("WARNING"):
        assert equal_sessions(cached_sessions(folder, [recording], {}, build).sessions, build())
    assert f"cannot read the cache entry {entry}" in caplog.text
    assert entry.stat().st_size == len(content)
    assert not marker.exists()


def test_failed_build_writes_no_entry(tmp_path: Path, recording: Path, build: CountingBuilder) -> None:
    def fail() -> dict[str, SessionTensors]:
        raise DataError("no trials")

    with pytest.raises(DataError, match=r"^no trials$"):
        cached_sessions(tmp_path / "cache", [recording], {}, fail)
    assert entries(tmp_path / "cache") == []
    cached_sessions(tmp_path / "cache", [recording], {}, build)
    assert build.calls == 1


def test_missing_recording_raises(tmp_path: Path, build: CountingBuilder) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone\.nwb: No such file or directory"):
        cached_sessions(tmp_path, [tmp_path / "gone.nwb"], {}, build)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def unprivileged() -> Iterator[Callable[[], None]]:
    """Returns a function that drops root privileges until the test ends; root ignores permission bits."""
    root = os.geteuid() == 0

    def give_up() -> None:
        if root:
            try:
                os.seteuid(65534)
            except OSError:
                pytest.skip("root ignores permission bits and cannot drop its privileges here")

    yield give_up
    if root:
        os.seteuid(0)


def test_entries_of_read_only_folder_are_readable(
    public_folder: Path, build: CountingBuilder, unprivileged: Callable[[], None]
) -> None:
    recording, folder = public_folder / "session.nwb", public_folder / "cache"
    recording.write_bytes(b"spikes")
    built = cached_sessions(folder, [recording], {}, build).sessions
    (folder / "digests.json").unlink()
    folder.chmod(0o555)
    unprivileged()
    assert equal_sessions(cached_sessions(folder, [recording], {}, build).sessions, built)
    assert build.calls == 1
    with pytest.raises(DataError, match=r"cannot write .*: Permission denied; .*--data\.cache_dir"):
        cached_sessions(folder, [recording], {"other": 1}, build)
    assert build.calls == 1


def test_file_at_the_path_of_the_folder_raises(recording: Path, build: CountingBuilder) -> None:
    with pytest.raises(DataError, match=r"cannot write .*session\.nwb.*--data\.cache_dir"):
        cached_sessions(recording, [recording], {}, build)
    assert build.calls == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_folder_without_lock_raises(
    tmp_path: Path, recording: Path, build: CountingBuilder, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(DataError, match=rf"{os.strerror(code)}; .*--data\.cache_dir"):
        cached_sessions(tmp_path, [recording], {}, build)
    assert build.calls == 0


@pytest.mark.parametrize("room", [1, 3000, 200_000])
def test_full_disk_raises_and_writes_no_entry(tmp_path: Path, recording: Path, room: int) -> None:
    big = {"train": replace(session(), spikes=torch.zeros(4, 1000, 100, dtype=torch.uint8))}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*: File too large; .*--data\.cache_dir") as raised:
            cached_sessions(tmp_path / "cache", [recording], {}, lambda: big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(raised.value)
    assert entries(tmp_path / "cache") == []
    assert equal_sessions(cached_sessions(tmp_path / "cache", [recording], {}, lambda: big).sessions, big)


def test_other_errors_of_torch_raise(
    tmp_path: Path, recording: Path, build: CountingBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("enforce fail\nat line 1")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(DataError, match=r"cannot write .*: enforce fail at line 1;"):
        cached_sessions(tmp_path, [recording], {}, build)


def run_process(tmp_path: Path, recording: Path, mode: str) -> None:
    """Main function of another process: sleeps during `mode`; "race" only builds the entry slowly."""
    save = torch.save

    def build() -> dict[str, SessionTensors]:
        with (tmp_path / "log").open("a") as file:
            file.write("made\n")
        time.sleep(600 if mode == "making" else 0.5)
        return CountingBuilder()()

    def save_half(entry: dict, file: BinaryIO) -> None:
        save(entry, file)
        file.truncate(file.tell() // 2)
        file.flush()
        (tmp_path / "half").touch()
        time.sleep(600)

    if mode == "writing":
        torch.save = save_half
    sys.exit(
        not equal_sessions(cached_sessions(tmp_path / "cache", [recording], {}, build).sessions, CountingBuilder()())
    )


def start_process(tmp_path: Path, recording: Path, mode: str) -> ForkProcess:
    process = get_context("fork").Process(target=run_process, args=(tmp_path, recording, mode))
    process.start()
    return process


def test_one_of_several_processes_builds_the_entry(tmp_path: Path, recording: Path) -> None:
    processes = [start_process(tmp_path, recording, "race") for _ in range(3)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "made\n"
    assert len(entries(tmp_path / "cache")) == 1


@pytest.mark.parametrize(("mode", "marker"), [("making", "log"), ("writing", "half")])
def test_killed_process_leaves_no_incomplete_entry(
    tmp_path: Path, recording: Path, build: CountingBuilder, mode: str, marker: str
) -> None:
    process = start_process(tmp_path, recording, mode)
    while not (tmp_path / marker).exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    folder = tmp_path / "cache"
    assert entries(folder) == []
    assert len(list(folder.glob(".*.pt"))) == (mode == "writing")
    assert equal_sessions(cached_sessions(folder, [recording], {}, build).sessions, build())
    assert len(entries(folder)) == 1
    assert list(folder.glob(".*.pt")) == []
