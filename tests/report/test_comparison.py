"""Comparisons of finished runs: roles, references, groups and notes."""

from pathlib import Path
from typing import Any

import pytest
from helpers.results import write_run

from blend_pl.errors import DataError
from blend_pl.report.comparison import compare_runs
from blend_pl.report.tables import difference_table, score_table
from blend_pl.runs.results import BASELINE, CONTROL, STUDENT, TEACHER


def names(comparison: Any) -> list[str]:
    return [experiment.name for experiment in comparison.experiments]


def model(system: str = "Student", backbone: str = "NDT", **settings: Any) -> dict[str, Any]:
    """Returns the model settings of a run."""
    backbone_config = {"class_path": f"blend_pl.models.{backbone}", "init_args": settings}
    return {"class_path": f"blend_pl.systems.{system}", "init_args": {"backbone": backbone_config}}


def test_experiments_are_ordered_by_role(tmp_path: Path) -> None:
    for name, role, system, teachers, checkpoint in [
        ("a_glm", BASELINE, "", (), None),
        ("a_self", CONTROL, "Student", ("t",), "best.ckpt"),
        ("a_hard", STUDENT, "Student", ("t",), "best.ckpt"),
        ("a_multimodal", CONTROL, "Multimodal", (), "best.ckpt"),
        ("a_finetuned", TEACHER, "SingleSessionTeacher", (), "best.ckpt"),
        ("a_multitask", CONTROL, "Student", (), "best.ckpt"),
        ("a_teacher", TEACHER, "SpikeTeacher", (), "best.ckpt"),
        ("a_baseline", BASELINE, "Student", (), "best.ckpt"),
    ]:
        write_run(tmp_path, name, role=role, model=model(system), teachers=teachers, checkpoint=checkpoint)
    (comparison,) = compare_runs([tmp_path])
    assert names(comparison) == [
        *("a_baseline", "a_teacher", "a_finetuned", "a_hard", "a_self", "a_multimodal", "a_multitask", "a_glm"),
    ]


def test_roles_do_not_depend_on_names(tmp_path: Path) -> None:
    for name, role in [("a", BASELINE), ("b_baseline", STUDENT), ("c_hard", TEACHER), ("d_teacher", CONTROL)]:
        write_run(tmp_path, name, role=role)
    (comparison,) = compare_runs([tmp_path])
    assert names(comparison) == ["a", "c_hard", "b_baseline", "d_teacher"]
    first, second, *others = comparison.experiments
    for experiment in others:
        assert comparison.reference_for(experiment, BASELINE) is first
        assert comparison.reference_for(experiment, TEACHER) is second


@pytest.mark.parametrize("folders", [["."], ["x_hard", "x_soft"], ["x_hard/seed0", "x_hard/seed1", "x_soft/seed0"]])
def test_runs_experiments_and_parent_folders_are_found(tmp_path: Path, folders: list[str]) -> None:
    for name, seed in [("x_hard", 0), ("x_hard", 1), ("x_soft", 0)]:
        write_run(tmp_path, name, seed)
    (comparison,) = compare_runs([tmp_path / folder for folder in folders])
    assert {e.name: [run.seed for run in e.runs] for e in comparison.experiments} == {"x_hard": [0, 1], "x_soft": [0]}


def test_duplicate_run_counts_once(tmp_path: Path) -> None:
    run = write_run(tmp_path, "x_hard")
    (comparison,) = compare_runs([tmp_path / "x_hard", run])
    assert len(comparison.experiments[0].runs) == 1
    assert comparison.notes == ()


@pytest.mark.parametrize(
    "change",
    [
        {"session": "mc_maze"},
        {"phase": "test"},
        {"selection": "val (30 trials)"},
        {"init_args": {"bin_ms": 5}},
        {"init_args": {"simulation": {"seed": 1}}},
    ],
)
def test_different_scoring_or_selection_has_separate_comparisons(tmp_path: Path, change: dict[str, Any]) -> None:
    write_run(tmp_path, "x_baseline")
    write_run(tmp_path, "x_hard", **change)
    assert [names(comparison) for comparison in compare_runs([tmp_path])] == [["x_baseline"], ["x_hard"]]


def test_equal_titles_are_noted_with_the_differing_settings(tmp_path: Path) -> None:
    write_run(tmp_path, "x_hard", 0)
    write_run(tmp_path, "x_hard", 1, init_args={"simulation": {"seed": 1}})
    first, second = compare_runs([tmp_path])
    assert first.title == second.title
    assert first.notes == ()
    assert second.notes[0].endswith("differ: simulation.")


def test_runs_of_different_data_are_never_in_one_table(tmp_path: Path) -> None:
    write_run(tmp_path, "x_teacher", 0, digest="aaaa")
    write_run(tmp_path, "x_baseline", 0, digest="bbbb")
    write_run(tmp_path, "x_hard", 0, digest="bbbb")
    write_run(tmp_path, "x_hard", 1, digest="cccc")
    comparisons = compare_runs([tmp_path])
    digests = [{run.results.digest for e in comparison.experiments for run in e.runs} for comparison in comparisons]
    assert sorted(map(tuple, digests)) == [("aaaa",), ("bbbb",), ("cccc",)]
    first, *others = comparisons
    assert first.notes == ()
    for comparison, digest in zip(others, digests[1:], strict=True):
        assert "its runs are of other data, so the recording has changed" in comparison.notes[0]
        assert f"(digest {digest.pop()}, above {first.experiments[0].results.digest})" in comparison.notes[0]


def test_folds_of_one_recording_are_pooled(tmp_path: Path) -> None:
    for fold in range(1, 6):
        for seed in range(2):
            for name, score in [("x_baseline", 0.2), ("x_hard", 0.3)]:
                settings = {"init_args": {"fold": f"{fold}/5"}, "digest": f"aaaa-{fold}", "run": f"{fold}-{seed}"}
                write_run(tmp_path, name, seed, {"co_bps": score + 0.1 * fold + 0.01 * seed}, **settings)
    write_run(tmp_path, "x_soft", init_args={"fold": "1/5"}, digest="aaaa-1", run="1-0")
    write_run(tmp_path, "x_soft", 1, init_args={"fold": "2/5"}, digest="aaaa-2", run="2-1")
    write_run(tmp_path, "x_self", init_args={"fold": "3/5"}, digest="bbbb-3", run="other recording")
    write_run(tmp_path, "x_baseline", init_args={"fold": "1/2"}, digest="cccc-1", run="other number of folds")
    write_run(tmp_path, "x_baseline", digest="dddd", run="no folds")
    pooled = next(c for c in compare_runs([tmp_path]) if len(c.experiments) == 3)
    assert len(compare_runs([tmp_path])) == 4
    assert pooled.title.startswith("simulated, 20 ms, 5 folds: ")
    scores = score_table(pooled)
    assert scores.header[1] == "runs"
    assert [row[1] for row in scores.rows] == ["5 folds x 2 seeds", "5 folds x 2 seeds", "2 folds, 2 runs"]
    assert scores.rows[0][2] == "0.5050 ± 0.1581"
    assert difference_table(pooled).rows[1][1] == "+0.1000 [+0.1000, +0.1000]"


def test_simulated_sessions_are_pooled_on_request(tmp_path: Path) -> None:
    for session in (201, 202, 203):
        init_args = {"source": "simulated", "simulation": {"seed": session, "n_train": 120}}
        for seed in range(2):
            for name, score in [("x_baseline", 0.2), ("x_hard", 0.3)]:
                scores = {"co_bps": score + 0.1 * (session - 200) + 0.01 * seed}
                write_run(tmp_path, name, seed, scores, f"{session}-{seed}", init_args, digest=f"{session}{session}")
    other = {"source": "simulated", "simulation": {"seed": 201, "n_train": 40}}
    write_run(tmp_path, "x_baseline", 0, run="fewer trials", init_args=other, digest="eeee")
    assert len(compare_runs([tmp_path])) == 4
    pooled, single = sorted(compare_runs([tmp_path], pool_sessions=True), key=lambda c: -len(c.experiments))
    assert "pooled over sessions" in pooled.title
    assert pooled.notes == ()
    assert [row[1] for row in score_table(pooled).rows] == ["3 sessions x 2 seeds"] * 2
    assert score_table(pooled).rows[0][2] == "0.4050 ± 0.1000"
    assert difference_table(pooled).rows[1][1] == "+0.1000 [+0.1000, +0.1000]"
    assert len(single.experiments) == 1


def test_runs_of_version_0_1_are_compared_with_those_of_one_digest(tmp_path: Path) -> None:
    write_run(tmp_path, "x_baseline", 0)
    write_run(tmp_path, "x_teacher", 0)
    (old,) = compare_runs([tmp_path])
    assert (len(old.experiments), old.notes) == (2, ())
    write_run(tmp_path, "x_hard", 0, digest="aaaa")
    (comparison,) = compare_runs([tmp_path])
    assert len(comparison.experiments) == 3
    assert "2 run(s) of version 0.1 hold no digest of their data" in comparison.notes[0]
    write_run(tmp_path, "x_hard", 1, digest="bbbb")
    assert sorted(len(comparison.experiments) for comparison in compare_runs([tmp_path])) == [1, 1, 2]


def test_data_folder_and_eval_batch_size_do_not_separate_runs(tmp_path: Path) -> None:
    write_run(tmp_path, "x_hard", 0)
    write_run(tmp_path, "x_hard", 1, init_args={"root": "/elsewhere", "eval_batch_size": 3})
    (comparison,) = compare_runs([tmp_path])
    assert len(comparison.experiments[0].runs) == 2


def test_runs_with_older_settings_and_older_runs_of_a_seed_are_omitted_and_noted(tmp_path: Path) -> None:
    write_run(tmp_path, "x_hard", 0, run="old", model="other", date="2025-01-01T00:00:00+0000")
    write_run(tmp_path, "x_hard", 1, run="first", date="2026-01-01T00:00:00+0000")
    latest = write_run(tmp_path, "x_hard", 1, run="again", date="2026-02-01T00:00:00+0000")
    (comparison,) = compare_runs([tmp_path])
    assert [run.path for run in comparison.experiments[0].runs] == [latest]
    assert ["settings" in comparison.notes[0], "same seed" in comparison.notes[1]] == [True, True]


@pytest.mark.parametrize(
    ("settings", "baseline"),
    [
        ({"backbone": "NDT", "num_layers": 2, "d_model": 64}, "x_baseline"),
        ({"backbone": "NDT", "num_layers": 2, "d_model": 32}, "x_baseline"),
        ({"backbone": "NDT", "num_layers": 4, "d_model": 64}, "x_deep_baseline"),
        ({"backbone": "LFADS", "gen_dim": 64}, "x_lfads_baseline"),
        ({"backbone": "LFADS", "gen_dim": 32}, "x_lfads_baseline"),
        ({"backbone": "STNDT", "num_layers": 2, "d_model": 64}, None),
    ],
)
def test_reference_among_several_baselines_has_the_most_similar_model(
    tmp_path: Path, settings: dict[str, Any], baseline: str | None
) -> None:
    write_run(tmp_path, "x_baseline", model=model(num_layers=2, d_model=64))
    write_run(tmp_path, "x_deep_baseline", model=model(num_layers=4, d_model=64))
    write_run(tmp_path, "x_lfads_baseline", model=model(backbone="LFADS", gen_dim=64))
    write_run(tmp_path, "y", model=model(**settings))
    (comparison,) = compare_runs([tmp_path])
    experiments = {e.name: e for e in comparison.experiments}
    reference = comparison.reference_for(experiments["y"], BASELINE)
    assert (reference.name if reference else None) == baseline


def test_reference_teacher_is_the_one_that_is_not_fine_tuned(tmp_path: Path) -> None:
    write_run(tmp_path, "x_finetuned", role=TEACHER, model=model("SingleSessionTeacher", num_layers=2))
    write_run(tmp_path, "x_multimodal", role=CONTROL, model=model("Multimodal", num_layers=2))
    write_run(tmp_path, "x_spikes", role=TEACHER, model=model("SpikeTeacher", num_layers=4))
    write_run(tmp_path, "x_distilled", model=model("SingleSessionStudent", num_layers=2))
    (comparison,) = compare_runs([tmp_path])
    for experiment in comparison.experiments[2:]:
        reference = comparison.reference_for(experiment, TEACHER)
        assert reference is not None
        assert reference.name == "x_spikes"


@pytest.mark.parametrize(
    ("teachers", "expected"),
    [
        (["x_generator/seed0"], "x_generator"),
        (["x_generator/seed1", "x_generator/seed0"], "x_generator"),
        (["x_teacher/seed0"], "x_teacher"),
        (["x_teacher/seed0", "x_generator/seed0"], "x_teacher"),
        (["x_baseline/seed0"], "x_teacher"),
        (["elsewhere/seed0"], "x_teacher"),
        (["x_generator/seed0-other"], "x_generator"),
        (["simulation"], "x_teacher"),
        ([], "x_teacher"),
    ],
)
def test_reference_teacher_is_that_of_the_student(tmp_path: Path, teachers: list[str], expected: str) -> None:
    write_run(tmp_path, "x_baseline", model=model(num_layers=2))
    write_run(tmp_path, "x_teacher", model=model("Teacher", num_layers=2))
    for seed in range(2):
        write_run(tmp_path, "x_generator", seed, role=TEACHER, model=model("GenerativeTeacher", "PopulationGenerator"))
    paths = tuple(f"/moved/runs/{run}/checkpoints/best.ckpt" for run in teachers)
    write_run(tmp_path, "x_student", teachers=paths, model=model(num_layers=2))
    (comparison,) = compare_runs([tmp_path])
    (student,) = [e for e in comparison.experiments if e.name == "x_student"]
    reference = comparison.reference_for(student, TEACHER)
    assert reference is not None
    assert reference.name == expected


def test_baseline_without_a_network_is_no_reference(tmp_path: Path) -> None:
    write_run(tmp_path, "x_glm", role=BASELINE, model={"plain": "glm"}, checkpoint=None)
    write_run(tmp_path, "x_hard")
    (comparison,) = compare_runs([tmp_path])
    assert comparison.reference_for(comparison.experiments[0], BASELINE) is None


def test_folder_without_finished_runs_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished run"):
        compare_runs([tmp_path])


def test_incomplete_results_raise(tmp_path: Path) -> None:
    (write_run(tmp_path, "x_hard") / "results.json").write_text('{"name": "x_hard"}')
    with pytest.raises(DataError, match="lacks 'session'"):
        compare_runs([tmp_path])
