import re
from pathlib import Path
from typing import Any

import pytest
from helpers.results import write_run

from blend_pl.report import report
from blend_pl.report.comparison import Comparison, compare_runs
from blend_pl.report.published import PUBLISHED_SCORES, find_published_scores, published_elsewhere_note
from blend_pl.report.tables import LOWER_IS_BETTER, SCORE_LABELS, published_table


def comparison(folder: Path, session: str, phase: str, **init_args: Any) -> Comparison:
    write_run(folder, "x_hard", session=session, phase=phase, init_args={"bin_ms": 5, "source": "files", **init_args})
    return compare_runs([folder])[0]


@pytest.mark.parametrize(("session", "phase"), PUBLISHED_SCORES)
def test_published_scores_are_of_the_benchmark_and_within_its_range(session: str, phase: str) -> None:
    for method, scores in PUBLISHED_SCORES[session, phase].methods.items():
        assert set(scores) <= set(SCORE_LABELS), method
        assert "co_bps" in scores
        assert ("tp_corr" if session == "dmfc_rsg" else "vel_r2") in scores
        assert all(-1 < value < 0 if name in LOWER_IS_BETTER else 0 < value < 1 for name, value in scores.items())


def test_numbers_of_the_leaderboard() -> None:
    assert {key[0] for key in PUBLISHED_SCORES if key[1] == "test"} == {"mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg"}
    assert all(len(found.methods) == 8 for (_, phase), found in PUBLISHED_SCORES.items() if phase == "test")
    ensemble = PUBLISHED_SCORES["mc_maze", "test"].methods["STNDT ensemble"]
    assert ensemble == {"co_bps": 0.3862, "vel_r2": 0.9095, "psth_r2": 0.6693, "fp_bps": 0.2686}


@pytest.mark.parametrize("session", ["mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg"])
def test_scores_of_test_stand_beside_test_and_never_beside_val(tmp_path: Path, session: str) -> None:
    on_test = comparison(tmp_path / "test", session, "test")
    assert find_published_scores(on_test) is PUBLISHED_SCORES[session, "test"]
    assert published_elsewhere_note(on_test) is None
    on_val = comparison(tmp_path / "val", session, "val")
    assert find_published_scores(on_val) is None
    assert "submit RUNS --score --test_targets download" in (published_elsewhere_note(on_val) or "")


def test_scores_of_val_stand_beside_val_and_never_beside_test(tmp_path: Path) -> None:
    on_val = comparison(tmp_path / "val", "mc_maze_large", "val")
    assert find_published_scores(on_val) is PUBLISHED_SCORES["mc_maze_large", "val"]
    assert published_elsewhere_note(on_val) is None
    assert find_published_scores(comparison(tmp_path / "test", "mc_maze_large", "test")) is None


@pytest.mark.parametrize("init_args", [{"bin_ms": 20}, {"source": "simulated"}])
@pytest.mark.parametrize("phase", ["val", "test"])
def test_other_bins_and_simulations_have_no_published_scores(
    tmp_path: Path, phase: str, init_args: dict[str, Any]
) -> None:
    other = comparison(tmp_path, "mc_maze", phase, **init_args)
    assert find_published_scores(other) is None
    assert published_elsewhere_note(other) is None


def test_scores_that_a_method_lacks_are_blank() -> None:
    table = published_table({"a": {"co_bps": 0.2}, "b": {"tp_corr": -0.5, "co_bps": 0.3}})
    assert table.header == ["published", "co-bps", "tp corr ↓"]
    assert table.rows == [["a", "0.2000", ""], ["b", "0.3000", "-0.5000"]]


@pytest.mark.parametrize("of", ["test", "val"])
def test_the_report_shows_published_scores_of_the_same_split_only(tmp_path: Path, capsys: Any, of: str) -> None:
    session = {"test": "mc_rtt", "val": "mc_maze_large"}[of]
    method = {"test": "AutoLFADS", "val": "Smoothing"}[of]
    score = f"{PUBLISHED_SCORES[session, of].methods[method]['co_bps']:.4f}"
    for phase in ("val", "test"):
        write_run(tmp_path, f"x_{phase}", session=session, phase=phase, init_args={"bin_ms": 5, "source": "files"})
    report([str(tmp_path)])
    markdown, html = ((tmp_path / "report" / f"report.{kind}").read_text() for kind in ("md", "html"))
    for text in (capsys.readouterr().out, markdown, html):
        assert text.count(score) == 1
        assert method in text
    sections = {re.findall(r"scored on (\w+)", part)[0]: part for part in markdown.split("\n## ")[1:]}
    assert set(sections) == {"val", "test"}
    assert [phase for phase, part in sections.items() if score in part] == [of]
    assert "never set against scores of val" in markdown if of == "test" else "never set" not in markdown
