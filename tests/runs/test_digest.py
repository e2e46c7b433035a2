"""Digest of the data in the folders of runs."""

import json
from pathlib import Path

import pytest
import torch
from helpers.results import make_results

from blend_pl.runs import teachers
from blend_pl.runs.digest import DIGEST_KEY, other_data_message, resumable_run_dir, stored_digest
from blend_pl.runs.folder import config_fingerprint, find_finished_run
from blend_pl.runs.results import RESULTS_FILE, Results
from blend_pl.runs.teachers import resolve_teacher

STUDENT = {"seed_everything": 0, "data": {"class_path": "D"}, "trainer": {"logger": None}}
TEACHER = "name: x_teacher\ndata: {class_path: D}\nmodel: {class_path: M}\n"


def write_run(run: Path, digest: str | None, fingerprint: str = "0123abcd") -> Path:
    (run / "checkpoints").mkdir(parents=True)
    torch.save({DIGEST_KEY: digest}, run / "checkpoints/best.ckpt")
    make_results(digest=digest, fingerprint=fingerprint).write(run)
    return run


def test_digest_is_read_from_results_or_else_from_checkpoints(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "aaaa")
    torch.save({DIGEST_KEY: "bbbb"}, run / "checkpoints/best.ckpt")
    assert stored_digest(run) == "aaaa"
    (run / RESULTS_FILE).unlink()
    assert stored_digest(run) == "bbbb"
    torch.save({DIGEST_KEY: "cccc"}, run / "checkpoints/last.ckpt")
    assert stored_digest(run) == "cccc"
    (run / "checkpoints/last.ckpt").write_bytes(b"damaged")
    assert stored_digest(run) == "bbbb"
    assert stored_digest(tmp_path / "missing") is None


def test_results_of_version_0_1_have_no_digest() -> None:
    fixtures = Path(__file__).parents[1] / "fixtures/v0_1"
    runs = [path.parent for path in fixtures.glob(f"*/*/{RESULTS_FILE}")]
    assert runs
    assert {stored_digest(run) for run in runs} == {None}
    assert {Results.read(run).digest for run in runs} == {None}


def test_finished_run_of_other_data_is_not_found(tmp_path: Path) -> None:
    run = write_run(tmp_path / "seed0-0123abcd", "aaaa")
    assert find_finished_run(tmp_path, "0123abcd", lambda: "aaaa") == run
    assert find_finished_run(tmp_path, "0123abcd", lambda: "bbbb") is None
    second = write_run(tmp_path / "seed0-0123abcd-2", "bbbb")
    assert find_finished_run(tmp_path, "0123abcd", lambda: "bbbb") == second


def test_data_are_read_only_for_a_run_with_a_digest(tmp_path: Path) -> None:
    def fail() -> str:
        raise AssertionError

    run = write_run(tmp_path / "seed0-0123abcd", None)
    assert find_finished_run(tmp_path, "0123abcd", fail) == run
    assert find_finished_run(tmp_path, "ffffffff", fail) is None
    assert resumable_run_dir(run, fail) == run


def test_resumable_folder_is_that_of_the_same_data_or_a_new_one(tmp_path: Path) -> None:
    first = write_run(tmp_path / "seed0", "aaaa")
    second = write_run(tmp_path / "seed0-2", "bbbb")
    assert resumable_run_dir(first, lambda: "aaaa") == first
    assert resumable_run_dir(first, lambda: "bbbb") == second
    assert resumable_run_dir(first, lambda: "cccc") == tmp_path / "seed0-3"
    assert resumable_run_dir(first, lambda: None) == first


@pytest.mark.parametrize(("stored", "digest"), [("a", "a"), (None, "a"), ("a", None), (None, None)])
def test_equal_or_unknown_data_have_no_message(stored: str | None, digest: str | None) -> None:
    assert other_data_message("the run", stored, digest) is None


def test_teacher_is_trained_again_on_other_data_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "teacher.yaml").write_text(TEACHER)
    digests = ["aaaa"]
    messages: list[str] = []
    trained: list[Path] = []

    def train(arguments: list[str], run: Path, output: Path) -> None:
        settings = json.loads(arguments[1])
        trained.append(write_run(run, digests[-1], config_fingerprint(settings)))

    def resolve() -> str:
        path = resolve_teacher(
            str(tmp_path / "teacher.yaml"),
            STUDENT,
            [],
            tmp_path / "runs",
            lambda arguments: json.loads(arguments[1]),
            lambda data: digests[-1],
            lambda settings: None,
            messages.append,
        )
        return path.parents[1].name

    monkeypatch.setattr(teachers, "_train_teacher", train)
    first = resolve()
    assert "has no finished run: training it first" in messages[0]
    assert resolve() == first
    digests.append("bbbb")
    messages.clear()
    assert resolve() == f"{first}-2"
    assert messages[0].endswith(
        f"{first} was trained on other data (digest aaaa) than those of now (digest bbbb): training it again"
    )
    assert resolve() == f"{first}-2"
    digests.append("aaaa")
    assert resolve() == first
    assert len(trained) == 2
