"""Scores of test trials against released targets, in comparisons and reports."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.results import write_run

from blend_pl.errors import DataError
from blend_pl.report import write_report
from blend_pl.report.comparison import compare_runs
from blend_pl.report.tables import difference_table, score_table

TARGETS = "f2f434d30193" + "0" * 52


def write_test_run(folder: Path, name: str, seed: int = 0, co_bps: float | None = 0.3, **changes: Any) -> Path:
    """Writes a run of phase test without scores; with `co_bps`, also its scores against released targets."""
    run = write_run(folder, name, seed, phase="test")
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**results, "scores": {}}))
    if co_bps is not None:
        scored = {
            "scores": {"co_bps": co_bps},
            "targets_sha256": TARGETS,
            "date": "2026-02-01T10:00:00+0000",
            **changes,
        }
        (run / "scores_test.json").write_text(json.dumps(scored))
    return run


def test_runs_of_phase_test_are_compared_by_scores_against_released_targets(tmp_path: Path) -> None:
    for seed, shift in enumerate((0.0, 0.01, 0.02)):
        write_test_run(tmp_path, "x_baseline", seed, 0.3 + shift)
        write_test_run(tmp_path, "x_hard", seed, 0.35 + shift)
    (comparison,) = compare_runs([tmp_path])
    assert score_table(comparison).rows[1] == ["x_hard", "3", "0.3600 ± 0.0100"]
    assert difference_table(comparison).rows[1][1] == "+0.0500 [+0.0500, +0.0500]"
    (note,) = comparison.notes
    assert note.startswith("Scored against the released targets (sha256 f2f434d30193, 2026-02-01); do not select")


def test_unscored_runs_are_noted_with_the_command_and_do_not_count(tmp_path: Path) -> None:
    for seed in range(3):
        write_test_run(tmp_path, "x_baseline", seed)
    write_test_run(tmp_path, "x_hard", 0)
    write_test_run(tmp_path, "x_hard", 1, date="2026-02-03T10:00:00+0000")
    missing = write_test_run(tmp_path, "x_hard", 2, None)
    (comparison,) = compare_runs([tmp_path])
    assert [row[1] for row in score_table(comparison).rows] == ["3", "2"]
    assert "2026-02-01 to 2026-02-03" in comparison.notes[0]
    assert f"python -m blend_pl submit {missing} --score --test_targets download" in comparison.notes[1]
    write_report([str(tmp_path)])
    assert "too few to report: x_hard." in (tmp_path / "report/report.md").read_text()


def test_report_without_scores_names_the_command(tmp_path: Path, capsys: Any) -> None:
    write_test_run(tmp_path, "x_baseline", 0, None)
    write_test_run(tmp_path, "x_hard", 0, None)
    write_report([str(tmp_path)])
    printed = capsys.readouterr().out
    assert "2 run(s) have no scores" in printed
    assert "--test_targets download" in printed
    assert "Fewer than" not in printed


def test_unscored_teacher_is_noted_without_the_command(tmp_path: Path) -> None:
    write_test_run(tmp_path, "x_baseline")
    teacher = write_test_run(tmp_path, "x_teacher", 0, None)
    student = write_test_run(tmp_path, "x_hard", 0, None)
    (comparison,) = compare_runs([tmp_path])
    assert comparison.notes[1].startswith("No scores of x_teacher: a teacher needs behavior")
    assert str(student) in comparison.notes[2]
    assert str(teacher) not in comparison.notes[2]
    assert difference_table(comparison).rows[1] == ["x_teacher", "", ""]


def test_scores_of_a_run_with_targets_of_its_test_trials_are_used(tmp_path: Path) -> None:
    write_run(tmp_path, "x_hard", scores={"co_bps": 0.4}, phase="test")
    (comparison,) = compare_runs([tmp_path])
    assert score_table(comparison).rows[0][2] == "0.4000"
    assert comparison.notes == ()


def test_test_scores_are_ignored_for_phase_val(tmp_path: Path) -> None:
    run = write_run(tmp_path, "x_hard", scores={"co_bps": 0.4})
    (run / "scores_test.json").write_text((write_test_run(tmp_path, "x_soft") / "scores_test.json").read_text())
    comparison = next(candidate for candidate in compare_runs([tmp_path]) if candidate.phase == "val")
    assert score_table(comparison).rows[0][2] == "0.4000"


def test_scores_against_different_targets_raise(tmp_path: Path) -> None:
    write_test_run(tmp_path, "x_baseline")
    write_test_run(tmp_path, "x_hard", targets_sha256="a" * 64)
    with pytest.raises(DataError, match="scored against different test targets") as caught:
        compare_runs([tmp_path])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scores": {"co_bps": "high"}}', '{"scores": {"co_bps": 0.1}}'])
def test_damaged_scores_raise(tmp_path: Path, text: str) -> None:
    run = write_test_run(tmp_path, "x_hard")
    (run / "scores_test.json").write_text(text)
    with pytest.raises(DataError, match=r"cannot read .*scores_test\.json.*write it again with") as caught:
        compare_runs([tmp_path])
    assert "\n" not in str(caught.value)
