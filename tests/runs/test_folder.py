import re
from pathlib import Path
from typing import Any

import pytest
from helpers.results import make_results

from blend_pl.errors import BlendError, ConfigError, DataError, TeacherError
from blend_pl.runs.folder import best_checkpoint, config_fingerprint, create_run_dir, find_finished_run, run_dir_of

SETTINGS: dict[str, Any] = {
    "name": "maze",
    "seed_everything": 0,
    "output": "runs",
    "run_dir": None,
    "ckpt_path": None,
    "model": {"init_args": {"num_layers": 2, "num_heads": 4}},
}


@pytest.mark.parametrize(
    "change",
    [
        {"output": "/elsewhere"},
        {"run_dir": "/elsewhere/run"},
        {"ckpt_path": "last"},
        {"name": "renamed"},
        {"teacher_args": ["--trainer.max_epochs=2"]},
        {"config": ["a.yaml"]},
    ],
)
def test_output_settings_do_not_change_the_fingerprint(change: dict[str, Any]) -> None:
    assert config_fingerprint({**SETTINGS, **change}) == config_fingerprint(SETTINGS)


@pytest.mark.parametrize(
    "change", [{"seed_everything": 1}, {"model": {"init_args": {"num_layers": 3, "num_heads": 4}}}, {"new": None}]
)
def test_other_settings_change_the_fingerprint(change: dict[str, Any]) -> None:
    assert config_fingerprint({**SETTINGS, **change}) != config_fingerprint(SETTINGS)


def test_fingerprint_does_not_depend_on_the_order_of_settings() -> None:
    reordered = dict(reversed(SETTINGS.items())) | {"model": {"init_args": {"num_heads": 4, "num_layers": 2}}}
    assert config_fingerprint(reordered) == config_fingerprint(SETTINGS)
    assert re.fullmatch("[0-9a-f]{8}", config_fingerprint(SETTINGS))


def test_taken_names_are_numbered(tmp_path: Path) -> None:
    run_dir = tmp_path / "maze" / "seed0-abc"
    assert [create_run_dir(run_dir).name for _ in range(3)] == ["seed0-abc", "seed0-abc-2", "seed0-abc-3"]
    assert all(folder.is_dir() for folder in (tmp_path / "maze").iterdir())


def test_folder_that_cannot_be_created_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose another folder") as raised:
        create_run_dir(tmp_path / "file" / "run")
    assert "\n" not in str(raised.value)


def test_logger_does_not_change_the_fingerprint() -> None:
    loggers: list[Any] = [None, True, {"class_path": "WandbLogger", "init_args": {"project": "x"}}]
    assert len({config_fingerprint({"trainer": {"max_epochs": 5, "logger": logger}}) for logger in loggers}) == 1
    assert config_fingerprint({"trainer": {"max_epochs": 6, "logger": None}}) != config_fingerprint(
        {"trainer": {"max_epochs": 5}}
    )


def write_finished_run(run: Path, fingerprint: str, checkpoint: bool = True) -> Path:
    (run / "checkpoints").mkdir(parents=True)
    if checkpoint:
        (run / "checkpoints" / "best.ckpt").write_bytes(b"")
    make_results(fingerprint=fingerprint).write(run)
    return run


def test_finished_run_is_found_by_its_fingerprint(tmp_path: Path) -> None:
    write_finished_run(tmp_path / "seed0-a", "aaaaaaaa")
    expected = write_finished_run(tmp_path / "seed0-b", "bbbbbbbb")
    write_finished_run(tmp_path / "seed0-c", "cccccccc", checkpoint=False)
    (tmp_path / "seed0-d" / "checkpoints").mkdir(parents=True)
    assert find_finished_run(tmp_path, "bbbbbbbb", lambda: None) == expected
    assert find_finished_run(tmp_path, "cccccccc", lambda: None) is None
    assert find_finished_run(tmp_path, "dddddddd", lambda: None) is None
    assert find_finished_run(tmp_path / "gone", "aaaaaaaa", lambda: None) is None


def test_best_checkpoint_and_run_dir_are_inverse(tmp_path: Path) -> None:
    run = write_finished_run(tmp_path / "run", "aaaaaaaa")
    assert best_checkpoint(run) == run / "checkpoints" / "best.ckpt"
    assert run_dir_of(best_checkpoint(run)) == run


@pytest.mark.parametrize(("find", "kind"), [(best_checkpoint, TeacherError), (run_dir_of, ConfigError)])
def test_folders_that_are_no_runs_are_refused(tmp_path: Path, find: Any, kind: type[BlendError]) -> None:
    with pytest.raises(kind) as raised:
        find(tmp_path / "model.ckpt")
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("key", ["distillation", "pretrained"])
def test_arguments_of_the_teacher_belong_to_the_fingerprint_of_its_student(key: str) -> None:
    student = {**SETTINGS, key: {"init_args": {"teacher": "teacher.yaml"}}}
    without, empty, short, long = (
        config_fingerprint({**student, **change})
        for change in ({}, {"teacher_args": []}, {"teacher_args": ["--lr=1"]}, {"teacher_args": ["--lr=2"]})
    )
    assert without == empty
    assert len({without, short, long}) == 3
