"""Warnings about students and teachers that do not exceed simpler models."""

from pathlib import Path
from typing import Any

import pytest
from helpers.results import write_run

from blend_pl.report import write_report
from blend_pl.report.comparison import compare_runs
from blend_pl.report.reference_checks import reference_warnings
from blend_pl.runs.results import BASELINE, TEACHER


def write_seeds(folder: Path, name: str, scores: dict[str, float], spread: float = 0.01, **changes: Any) -> None:
    """Writes runs of three seeds, whose scores deviate by `spread` from their mean."""
    for seed, shift in enumerate((-spread, 0.0, spread)):
        write_run(folder, name, seed, {key: score + shift for key, score in scores.items()}, **changes)


def write_plain(folder: Path, name: str, scores: dict[str, float]) -> None:
    write_seeds(folder, name, scores, 0.0, role=BASELINE, checkpoint=None, model={"baseline": name})


def warnings_of(folder: Path) -> list[str]:
    (comparison,) = compare_runs([folder])
    return [*reference_warnings(comparison)]


@pytest.mark.parametrize(("plain_score", "is_warned"), [(0.32, True), (0.305, False), (0.2, False)])
def test_student_below_a_plain_baseline_is_named(tmp_path: Path, plain_score: float, is_warned: bool) -> None:
    write_seeds(tmp_path, "x_hard", {"co_bps": 0.3, "vel_r2": 0.7})
    write_plain(tmp_path, "x_smoothing", {"co_bps": 0.1, "vel_r2": 0.5})
    write_plain(tmp_path, "x_glm", {"co_bps": plain_score, "vel_r2": 0.5})
    expected = [
        "x_hard loses to x_glm, which needs no network, in co-bps (0.3000 against 0.3200), by more than its spread."
    ]
    assert warnings_of(tmp_path) == (expected if is_warned else [])


def test_wiener_filter_is_compared_in_velocity_only(tmp_path: Path) -> None:
    write_seeds(tmp_path, "x_hard", {"co_bps": 0.3, "vel_r2": 0.7})
    write_seeds(tmp_path, "x_soft", {"co_bps": 0.3, "vel_r2": 0.8})
    write_plain(tmp_path, "x_wiener", {"vel_r2": 0.77})
    (warning,) = warnings_of(tmp_path)
    assert warning.startswith("x_hard loses to x_wiener, which needs no network, in velocity R2")


def test_seeds_of_a_plain_baseline_may_differ(tmp_path: Path) -> None:
    write_seeds(tmp_path, "x_hard", {"co_bps": 0.3})
    write_run(tmp_path, "x_glm", 7, {"co_bps": 0.4}, role=BASELINE, checkpoint=None)
    (warning,) = warnings_of(tmp_path)
    assert "x_glm" in warning


@pytest.mark.parametrize(
    ("key", "teacher", "baseline", "is_warned"),
    [
        ("co_bps", 0.305, 0.3, True),
        ("co_bps", 0.32, 0.3, False),
        ("vel_r2", 0.2, 0.3, True),
        ("new_r2", 0.2, 0.3, True),
        ("tp_corr", -0.2, -0.3, True),
        ("tp_corr", -0.4, -0.3, False),
        ("subclass_balanced", 0.8, 0.9, True),
    ],
)
def test_teacher_without_an_advantage_is_named(
    tmp_path: Path, key: str, teacher: float, baseline: float, is_warned: bool
) -> None:
    write_seeds(tmp_path, "x_baseline", {key: baseline})
    write_seeds(tmp_path, "x_teacher", {key: teacher})
    warnings = warnings_of(tmp_path)
    assert len(warnings) == is_warned
    assert all(warning.startswith("x_teacher is no better than x_baseline in ") for warning in warnings)


def test_spread_over_folds_is_that_of_the_differences(tmp_path: Path) -> None:
    for fold in range(1, 5):
        for name, score in [("x_baseline", 0.3), ("x_teacher", 0.32)]:
            settings = {"init_args": {"fold": f"{fold}/4"}, "digest": f"aaaa-{fold}", "run": f"fold{fold}"}
            write_run(tmp_path, name, 0, {"co_bps": score + 0.1 * fold + 0.001 * fold * (score > 0.3)}, **settings)
    assert warnings_of(tmp_path) == []


def test_teacher_without_information_is_named_without_a_baseline(tmp_path: Path) -> None:
    write_seeds(tmp_path, "x_teacher", {"vel_r2": -0.12})
    write_seeds(tmp_path, "x_hard", {"vel_r2": 0.1})
    assert warnings_of(tmp_path) == [
        "x_teacher is no better than a constant prediction in velocity R2 (-0.1200), so its students have nothing to "
        "learn from it there."
    ]


def test_teachers_of_the_gap_are_listed_if_there_are_several(tmp_path: Path) -> None:
    write_seeds(tmp_path, "x_baseline", {"co_bps": 0.2})
    for name in ("x_teacher", "x_generator"):
        write_seeds(tmp_path, name, {"co_bps": 0.4}, role=TEACHER)
    for name, teacher in [("x_hard", "x_teacher"), ("x_soft", "x_teacher"), ("x_generative", "x_generator")]:
        write_seeds(tmp_path, name, {"co_bps": 0.3}, teachers=(f"runs/{teacher}/seed0/checkpoints/best.ckpt",))
    (note,) = warnings_of(tmp_path)
    assert note == (
        "Gap closed refers to the teacher of each student (x_generative: x_generator; x_hard, x_soft: x_teacher)."
    )


def test_warnings_are_printed_and_in_the_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_seeds(tmp_path, "x_hard", {"co_bps": 0.3})
    write_plain(tmp_path, "x_glm", {"co_bps": 0.4})
    write_report([str(tmp_path)])
    sentence = "x_hard loses to x_glm, which needs no network, in co-bps"
    assert f"note: {sentence}" in capsys.readouterr().out
    for page in ("report.md", "report.html"):
        assert sentence in (tmp_path / "report" / page).read_text()
