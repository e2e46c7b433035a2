"""Download of checkpoints from W&B, with its client and a local server."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import wandb
from helpers.local_server import serving
from helpers.wandb_server import Server

from blend_pl.errors import BlendError, TeacherError
from blend_pl.runs.artifacts import fetch_artifact
from blend_pl.runs.teachers import resolve_teachers

REFERENCE = "wandb:lab/proj/teacher:latest"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(Server()) as served:
        monkeypatch.setenv("WANDB_BASE_URL", served.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        for name in ("CACHE", "DATA", "CONFIG"):
            monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
        wandb.teardown()
        yield served
        wandb.teardown()


def test_checkpoint_is_downloaded_once_per_version(server: Server, tmp_path: Path) -> None:
    messages: list[str] = []
    student = {"seed_everything": 0, "data": {}, "trainer": {"logger": None}}
    (path,) = resolve_teachers(
        REFERENCE,
        student,
        [],
        tmp_path / "runs",
        lambda command: {},
        lambda data: None,
        lambda settings: None,
        messages.append,
    )
    assert path == tmp_path / "runs/artifacts/lab/proj/teacher-v3-digest3/best.ckpt"
    assert path.read_bytes() == b"weights"
    assert len(messages) == 1
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(lambda _: fetch_artifact(REFERENCE, tmp_path / "runs", messages.append), range(3)))
    assert paths == [path] * 3
    assert len(messages) == 1
    n_requests = len(server.requests)
    assert fetch_artifact("wandb:lab/proj/teacher:v3", tmp_path / "runs", messages.append) == path
    assert len(server.requests) == n_requests, "a downloaded version needs no network"
    server.version, server.files["best.ckpt"] = 4, b"better weights"
    newer = fetch_artifact(REFERENCE, tmp_path / "runs", messages.append)
    assert newer.parent.name == "teacher-v4-digest4"
    assert (path.read_bytes(), newer.read_bytes()) == (b"weights", b"better weights")


def test_damaged_download_is_deleted(server: Server, tmp_path: Path) -> None:
    server.corrupt = True
    with pytest.raises(BlendError) as error:
        fetch_artifact(REFERENCE, tmp_path, print)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.glob("artifacts/lab/proj/*")] == [".teacher.lock"]
    server.corrupt = False
    assert fetch_artifact(REFERENCE, tmp_path, print).read_bytes() == b"weights"


def test_failed_download_is_reported_as_a_network_error(server: Server, tmp_path: Path) -> None:
    server.missing = True
    with pytest.raises(TeacherError, match=r"404.*the network"):
        fetch_artifact(REFERENCE, tmp_path, print)


def test_artifact_without_checkpoint_is_refused(server: Server, tmp_path: Path) -> None:
    del server.files["best.ckpt"]
    with pytest.raises(TeacherError, match=r"holds no best\.ckpt"):
        fetch_artifact(REFERENCE, tmp_path, print)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("wandb:lab/proj/missing:latest", "not found.*check its name"),
        ("wandb:lab/proj/teacher:v9", "not found.*check its name"),
        ("wandb:teacher:latest", "write wandb:ENTITY/PROJECT/ARTIFACT:ALIAS"),
        ("wandb:lab/../teacher:latest", "write wandb:ENTITY/PROJECT/ARTIFACT:ALIAS"),
    ],
)
def test_missing_artifact_and_invalid_reference_are_refused(
    reference: str, message: str, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(TeacherError, match=message):
        fetch_artifact(reference, tmp_path, print)


def test_invalid_key_raises_with_the_login_command(server: Server, tmp_path: Path) -> None:
    server.has_valid_key = False
    with pytest.raises(TeacherError, match="run wandb login"):
        fetch_artifact(REFERENCE, tmp_path, print)


def test_unreachable_server_raises(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blend_pl.runs.artifacts.TIMEOUT_S", 1)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(TeacherError, match=r"cannot .*W&B.*: .*(network|login)"):
        fetch_artifact(REFERENCE, tmp_path, print)


def test_missing_wandb_raises_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TeacherError, match=r"blend-pl\[wandb\]"):
        fetch_artifact(REFERENCE, tmp_path, print)
