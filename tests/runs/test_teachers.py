"""Tests of teachers that are trained on demand."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import SIMULATION, experiment, fit_tiny, teacher_args
from helpers.results import write_run

from blend_pl.config import compose_experiment
from blend_pl.runs.results import Results
from blend_pl.runs.teachers import resolve_teachers


def resolve_config(arguments: list[str]) -> dict[str, Any]:
    """Returns the settings in the first `--config` and, as text, the other arguments."""
    settings: dict[str, Any] = json.loads(arguments[1])
    return {**settings, "changes": arguments[2:]}


def digest_of(data: dict[str, Any]) -> str:
    return str(data["init_args"].get("fold"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Run folders of the teachers that are trained, which are written without training."""
    runs: list[Path] = []

    def write_teacher(arguments: list[str], run: Path, output: Path) -> None:
        settings = resolve_config(arguments)
        fingerprint, digest = run.name.split("-")[1], digest_of(settings["data"])
        write_run(output, run.parent.name, run=run.name, fingerprint=fingerprint, digest=digest)
        (run / "checkpoints").mkdir()
        (run / "checkpoints/best.ckpt").touch()
        runs.append(run)

    monkeypatch.setattr("blend_pl.runs.teachers._train_teacher", write_teacher)
    return runs


def resolve(
    output: Path, *changes: str, n_steps: int | None = None, lines: list[str] | None = None, **data: Any
) -> Path:
    """Returns the run of the teacher of a student with these arguments and settings of its data.

    Args:
        output: folder of all runs.
        changes: arguments of the teacher's training.
        n_steps: number of steps of the training.
        lines: receives the printed lines.
        data: settings of the data.
    """
    student = compose_experiment([experiment("simulated_baseline")])
    student["data"]["init_args"].update(data)
    student = {**student, "seed_everything": 0, "trainer": {"logger": None}}
    (checkpoint,) = resolve_teachers(
        str(experiment("simulated_teacher")),
        student,
        [*changes],
        output,
        resolve_config,
        digest_of,
        lambda settings: n_steps,
        ([] if lines is None else lines).append,
    )
    return checkpoint.parents[1]


def test_teacher_has_the_fold_of_its_student(trained: list[Path], tmp_path: Path) -> None:
    teachers = [resolve(tmp_path, fold=fold) for fold in ("1/2", "2/2", "1/2", None)]
    assert trained == [teachers[0], teachers[1], teachers[3]]
    assert teachers[2] == teachers[0]


def test_teacher_of_another_fold_with_equal_settings_is_not_reused(
    trained: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Even if the settings did not distinguish the folds, the digests of the data would.
    monkeypatch.setattr("blend_pl.runs.teachers.config_fingerprint", lambda settings: "0123abcd")
    first, second = resolve(tmp_path, fold="1/2"), resolve(tmp_path, fold="2/2")
    assert trained == [first, second]
    assert second.name == f"{first.name}-2"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def arguments(tiny_root: Path) -> list[str]:
    return [f"--data.root={tiny_root}", *SIMULATION, "--trainer.max_epochs=1"]


def teacher_of(student: Path) -> Path:
    (checkpoint,) = Results.read(student).teachers
    return Path(checkpoint).parents[1]


def test_other_arguments_train_another_teacher(trained: list[Path], tmp_path: Path) -> None:
    teachers = [resolve(tmp_path, *changes) for changes in (("--lr=1",), ("--lr=2",), ("--lr=1",))]
    assert trained == teachers[:2]
    assert teachers[2] == teachers[0]


@pytest.mark.usefixtures("trained")
def test_length_of_the_training_is_printed_before_it(tmp_path: Path) -> None:
    lines: list[str] = []
    resolve(tmp_path, n_steps=1600, lines=lines)
    path, epochs = experiment("simulated_teacher"), compose_experiment([experiment("simulated_teacher")])
    assert lines[1].startswith(
        f"training the teacher {path}: at most {epochs['trainer']['max_epochs']} epochs or 1,600 steps; its settings "
        "are changed with --teacher_args "
    )
    lines.clear()
    resolve(tmp_path, n_steps=1600, lines=lines)
    assert not any("steps" in line for line in lines)


@pytest.mark.slow
@pytest.mark.usefixtures("teachers_here")
def test_teacher_of_another_fold_is_not_reused(output: Path, arguments: list[str]) -> None:
    short = teacher_args("--trainer.max_epochs=1")
    students = [
        fit_tiny("simulated_hard", output, *arguments, short, f"--data.fold={fold}").run_dir
        for fold in ("1/2", "2/2", "2/2")
    ]
    teachers = [teacher_of(student) for student in students]
    assert teachers[0] != teachers[1] == teachers[2]
    for student, teacher in zip(students, teachers, strict=True):
        student_results, teacher_results = Results.read(student), Results.read(teacher)
        assert student_results.fold == teacher_results.fold
        assert student_results.digest == teacher_results.digest
    first, second = (Results.read(student) for student in students[:2])
    assert first.digest != second.digest
    assert first.recording_digest == second.recording_digest
    assert first.fingerprint != second.fingerprint


@pytest.mark.slow
@pytest.mark.usefixtures("teachers_here")
def test_students_with_other_teacher_arguments_have_other_folders_and_teachers(
    output: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    students = [
        fit_tiny("simulated_hard", output, *arguments, teacher_args(f"--trainer.max_epochs={epochs}")).run_dir
        for epochs in (1, 2)
    ]
    assert students[0] != students[1]
    assert teacher_of(students[0]) != teacher_of(students[1])
    assert [Results.read(teacher_of(student)).epoch for student in students] == [1, 2]
    printed = capsys.readouterr().out
    assert "at most 1 epochs or 1 steps" in printed
    assert "at most 2 epochs or 2 steps" in printed
