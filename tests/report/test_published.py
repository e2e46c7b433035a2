"""Published scores next to the scores of runs."""

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.results import write_run

from blend_pl.metrics.labels import LOWER_IS_BETTER, SCORE_LABELS
from blend_pl.report import write_report
from blend_pl.report.comparison import Comparison, compare_runs
from blend_pl.report.published import PUBLISHED_SCORES, find_published_scores, published_elsewhere_note
from blend_pl.report.tables import published_table


def comparison(folder: Path, session: str, phase: str, **init_args: Any) -> Comparison:
    write_run(folder, "x_hard", session=session, phase=phase, init_args={"bin_ms": 5, "source": "files", **init_args})
    return compare_runs([folder])[0]


@pytest.mark.parametrize(("session", "phase"), PUBLISHED_SCORES)
def test_published_scores_have_known_names_and_plausible_values(session: str, phase: str) -> None:
    for method, scores in PUBLISHED_SCORES[session, phase].methods.items():
        assert set(scores) <= set(SCORE_LABELS), method
        assert "co_bps" in scores
        assert ("tp_corr" if session == "dmfc_rsg" else "vel_r2") in scores
        assert all(-1 < value < 0 if name in LOWER_IS_BETTER else 0 < value < 1 for name, value in scores.items())


def test_leaderboard_has_the_published_numbers() -> None:
    assert {key[0] for key in PUBLISHED_SCORES if key[1] == "test"} == {"mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg"}
    assert all(len(published.methods) == 8 for (_, phase), published in PUBLISHED_SCORES.items() if phase == "test")
    ensemble = PUBLISHED_SCORES["mc_maze", "test"].methods["STNDT ensemble"]
    assert ensemble == {"co_bps": 0.3862, "vel_r2": 0.9095, "psth_r2": 0.6693, "fp_bps": 0.2686}


@pytest.mark.parametrize("session", ["mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg"])
def test_published_test_scores_are_shown_only_for_test_trials(tmp_path: Path, session: str) -> None:
    on_test = comparison(tmp_path / "test", session, "test")
    assert find_published_scores(on_test) is PUBLISHED_SCORES[session, "test"]
    assert published_elsewhere_note(on_test) is None
    on_val = comparison(tmp_path / "val", session, "val")
    assert find_published_scores(on_val) is None
    assert "submit RUNS --score --test_targets download" in (published_elsewhere_note(on_val) or "")


def test_published_val_scores_are_shown_only_for_val_trials(tmp_path: Path) -> None:
    on_val = comparison(tmp_path / "val", "mc_maze_large", "val")
    assert find_published_scores(on_val) is PUBLISHED_SCORES["mc_maze_large", "val"]
    assert published_elsewhere_note(on_val) is None
    assert find_published_scores(comparison(tmp_path / "test", "mc_maze_large", "test")) is None


@pytest.mark.parametrize("init_args", [{"bin_ms": 20}, {"source": "simulated"}])
@pytest.mark.parametrize("phase", ["val", "test"])
def test_other_bin_widths_and_simulations_have_no_published_scores(
    tmp_path: Path, phase: str, init_args: dict[str, Any]
) -> None:
    other = comparison(tmp_path, "mc_maze", phase, **init_args)
    assert find_published_scores(other) is None
    assert published_elsewhere_note(other) is None


def test_missing_scores_of_a_method_are_blank() -> None:
    table = published_table({"a": {"co_bps": 0.2}, "b": {"tp_corr": -0.5, "co_bps": 0.3}})
    assert table.header == ["published", "co-bps", "tp corr ↓"]
    assert table.rows == [["a", "0.2000", ""], ["b", "0.3000", "-0.5000"]]


@pytest.mark.parametrize("published_phase", ["test", "val"])
def test_report_shows_published_scores_of_the_same_phase_only(
    tmp_path: Path, capsys: Any, published_phase: str
) -> None:
    session = {"test": "mc_rtt", "val": "mc_maze_large"}[published_phase]
    method = {"test": "AutoLFADS", "val": "Smoothing"}[published_phase]
    score = f"{PUBLISHED_SCORES[session, published_phase].methods[method]['co_bps']:.4f}"
    for phase in ("val", "test"):
        write_run(tmp_path, f"x_{phase}", session=session, phase=phase, init_args={"bin_ms": 5, "source": "files"})
    write_report([str(tmp_path)])
    markdown, html = ((tmp_path / "report" / f"report.{kind}").read_text() for kind in ("md", "html"))
    for text in (capsys.readouterr().out, markdown, html):
        assert text.count(score) == 1
        assert method in text
    sections = {re.findall(r"scored on (\w+)", section)[0]: section for section in markdown.split("\n## ")[1:]}
    assert set(sections) == {"val", "test"}
    assert [phase for phase, section in sections.items() if score in section] == [published_phase]
    assert ("not comparable with scores of val" in markdown) is (published_phase == "test")
