from pathlib import Path
from typing import Any

import pytest
from helpers.results import write_run

from blend_pl.errors import DataError
from blend_pl.report.comparison import compare_runs


def names(comparison: Any) -> list[str]:
    return [experiment.name for experiment in comparison.experiments]


def test_experiments_come_in_the_order_of_their_roles(tmp_path: Path) -> None:
    for name, teachers in [
        ("a_self", ["t"]),
        ("a_hard", ["t"]),
        ("a_multimodal", []),
        ("a_finetuned", []),
        ("a_wide", []),
        ("a_teacher", []),
        ("a_baseline", []),
    ]:
        write_run(tmp_path, name, teachers=teachers)
    (comparison,) = compare_runs([tmp_path])
    assert names(comparison) == [
        *("a_baseline", "a_teacher", "a_finetuned", "a_multimodal", "a_hard", "a_self", "a_wide"),
    ]


@pytest.mark.parametrize("given", [["."], ["x_hard", "x_soft"], ["x_hard/seed0", "x_hard/seed1", "x_soft/seed0"]])
def test_runs_experiments_and_their_folder_are_understood(tmp_path: Path, given: list[str]) -> None:
    for name, seed in [("x_hard", 0), ("x_hard", 1), ("x_soft", 0)]:
        write_run(tmp_path, name, seed)
    (comparison,) = compare_runs([tmp_path / folder for folder in given])
    assert {e.name: [run.seed for run in e.runs] for e in comparison.experiments} == {"x_hard": [0, 1], "x_soft": [0]}


def test_a_run_given_twice_counts_once(tmp_path: Path) -> None:
    run = write_run(tmp_path, "x_hard")
    (comparison,) = compare_runs([tmp_path / "x_hard", run])
    assert len(comparison.experiments[0].runs) == 1
    assert comparison.notes == ()


@pytest.mark.parametrize(
    "other",
    [
        {"session": "mc_maze"},
        {"phase": "test"},
        {"selection": "val (30 trials)"},
        {"init_args": {"bin_ms": 5}},
        {"init_args": {"simulation": {"seed": 1}}},
    ],
)
def test_what_was_scored_or_selected_differently_is_never_compared(tmp_path: Path, other: dict[str, Any]) -> None:
    write_run(tmp_path, "x_baseline")
    write_run(tmp_path, "x_hard", **other)
    assert [names(comparison) for comparison in compare_runs([tmp_path])] == [["x_baseline"], ["x_hard"]]


def test_tables_of_one_title_are_told_apart(tmp_path: Path) -> None:
    write_run(tmp_path, "x_hard", 0)
    write_run(tmp_path, "x_hard", 1, init_args={"simulation": {"seed": 1}})
    first, second = compare_runs([tmp_path])
    assert first.title == second.title
    assert first.notes == ()
    assert second.notes[0].endswith("differ: simulation.")


def test_where_data_lie_and_how_they_are_batched_for_scoring_does_not_count(tmp_path: Path) -> None:
    write_run(tmp_path, "x_hard", 0)
    write_run(tmp_path, "x_hard", 1, init_args={"root": "/elsewhere", "eval_batch_size": 3})
    (comparison,) = compare_runs([tmp_path])
    assert len(comparison.experiments[0].runs) == 2


def test_runs_of_older_settings_and_older_runs_of_a_seed_are_left_out_and_named(tmp_path: Path) -> None:
    write_run(tmp_path, "x_hard", 0, run="old", model="other", date="2025-01-01T00:00:00+0000")
    write_run(tmp_path, "x_hard", 1, run="first", date="2026-01-01T00:00:00+0000")
    kept = write_run(tmp_path, "x_hard", 1, run="again", date="2026-02-01T00:00:00+0000")
    (comparison,) = compare_runs([tmp_path])
    assert [run.path for run in comparison.experiments[0].runs] == [kept]
    assert ["settings" in comparison.notes[0], "same seed" in comparison.notes[1]] == [True, True]


@pytest.mark.parametrize(
    ("experiment", "baseline"),
    [
        ("x_hard", "x_baseline"),
        ("x_lfads_hard", "x_lfads_baseline"),
        ("x_lfads_from_ndt_hard", "x_lfads_baseline"),
        ("x_small_hard", "x_baseline"),
        ("xx_hard", None),
        ("own_hard", None),
    ],
)
def test_of_several_baselines_that_of_the_nearest_family_counts(
    tmp_path: Path, experiment: str, baseline: str | None
) -> None:
    for name in ("x_baseline", "x_lfads_baseline", experiment):
        write_run(tmp_path, name)
    (comparison,) = compare_runs([tmp_path])
    experiments = {e.name: e for e in comparison.experiments}
    assert comparison.reference_for(experiments[experiment], "baseline") is experiments.get(baseline)  # type: ignore[arg-type]


def test_folders_without_a_finished_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished run"):
        compare_runs([tmp_path])


def test_results_that_lack_something_are_refused(tmp_path: Path) -> None:
    (write_run(tmp_path, "x_hard") / "results.json").write_text('{"name": "x_hard"}')
    with pytest.raises(DataError, match="lacks 'session'"):
        compare_runs([tmp_path])
