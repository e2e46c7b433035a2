"""Tests of teachers that are trained on demand."""

from pathlib import Path

import pytest
from helpers.cli import SIMULATION, fit_tiny, teacher_args

from blend_pl.runs.results import Results


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def arguments(tiny_root: Path) -> list[str]:
    return [f"--data.root={tiny_root}", *SIMULATION, "--trainer.max_epochs=1"]


def teacher_of(student: Path) -> Path:
    (checkpoint,) = Results.read(student).teachers
    return Path(checkpoint).parents[1]


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
