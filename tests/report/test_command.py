"""Command `report` and its tables."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.results import write_run

import blend_pl.report
from blend_pl.errors import DataError
from blend_pl.report import print_scores, write_report
from blend_pl.report.comparison import compare_runs
from blend_pl.report.tables import ceiling_table, difference_table, score_table
from blend_pl.runs.results import BASELINE, Cost


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    oracle = {"co_bps": 0.8}
    for seed, shift in enumerate((0.0, 0.01, 0.02)):
        for name, score, teachers in [("baseline", 0.2, []), ("teacher", 0.4, []), ("hard", 0.25, ["t"])]:
            scores = {"co_bps": score + shift, "vel_r2": 2 * score}
            write_run(tmp_path, f"x_{name}", seed, scores, teachers=teachers, oracle=oracle)
    return tmp_path


def test_score_table(runs: Path) -> None:
    table = score_table(compare_runs([runs])[0])
    assert table.header == ["experiment", "seeds", "co-bps", "velocity R2", "of oracle"]
    assert table.rows[0] == ["x_baseline", "3", "0.2100 ± 0.0100", "0.4000 ± 0.0000", "26 %"]


def test_difference_table_has_intervals_and_gaps(runs: Path) -> None:
    table = difference_table(compare_runs([runs])[0])
    assert table.rows[0] == ["x_baseline", "", "", "", ""]
    assert table.rows[1][1:] == ["+0.2000 [+0.2000, +0.2000]", "+0.4000 [+0.4000, +0.4000]", "", ""]
    assert table.rows[2][1:] == ["+0.0500 [+0.0500, +0.0500]", "+0.1000 [+0.1000, +0.1000]", "25 %", "25 %"]


def test_shares_of_the_ceiling(runs: Path, capsys: Any) -> None:
    for seed, shift in enumerate((0.0, 0.01, 0.02)):
        write_run(runs, "x_ceiling", seed, {"co_bps": 0.3 + shift, "vel_r2": 0.65})
        write_run(runs, "x_wiener", seed, {"vel_r2": 0.35}, role=BASELINE, checkpoint=None)
    table = ceiling_table(compare_runs([runs])[0])
    assert table.header[1:] == ["of ceiling, co-bps", "of ceiling, velocity R2"]
    shares = {row[0]: row[1:] for row in table.rows}
    assert shares == {
        "x_baseline": ["", ""],
        "x_teacher": ["200 %", "160 %"],
        "x_hard": ["50 %", "40 %"],
        "x_ceiling": ["100 %", "100 %"],
        "x_wiener": ["", "-20 %"],
    }
    write_report([str(runs)])
    printed = capsys.readouterr().out
    assert max(map(len, printed.split("note:")[0].splitlines())) <= 80
    assert "…" not in printed
    assert "| of ceiling, co-bps | of ceiling, velocity R2 |" in (runs / "report/report.md").read_text()


def test_no_shares_without_a_ceiling_or_a_baseline(runs: Path, tmp_path: Path) -> None:
    assert ceiling_table(compare_runs([runs])[0]).header == ["experiment"]
    other = tmp_path / "other"
    write_run(other, "y_ceiling")
    assert ceiling_table(compare_runs([other])[0]).header == ["experiment"]
    write_report([str(runs)], str(other / "report"))
    assert "of ceiling" not in (other / "report/report.md").read_text().split("Scores are mean")[0]


def test_missing_seeds_show_the_number_of_pairs(runs: Path) -> None:
    write_run(runs, "x_soft", 0, {"co_bps": 0.3}, teachers=["t"])
    write_run(runs, "x_soft", 9, {"co_bps": 0.3}, teachers=["t"])
    write_run(runs, "x_late", 9, {"co_bps": 0.3}, teachers=["t"])
    rows = {row[0]: row for row in difference_table(compare_runs([runs])[0]).rows}
    assert rows["x_soft"][1] == "+0.1000, n = 1"
    assert rows["x_late"][1] == "no common seed"


def test_lower_tp_corr_closes_the_gap(tmp_path: Path) -> None:
    for seed in range(3):
        for name, score, teachers in [("baseline", -0.5, []), ("teacher", -0.9, []), ("hard", -0.6, ["t"])]:
            write_run(tmp_path, f"x_{name}", seed, {"co_bps": 0.2, "tp_corr": score}, teachers=teachers)
    write_report([str(tmp_path)])
    text = (tmp_path / "report/report.md").read_text()
    rows = {
        line.split("|")[1].strip(): [*map(str.strip, line.split("|")[2:-1])]
        for line in text.splitlines()
        if "|" in line
    }
    assert rows["experiment"][2] == "tp corr ↓"
    student = dict(zip(rows["experiment"], rows["hard"], strict=True))
    assert student["Δ tp corr ↓"] == "-0.1000 [-0.1000, -0.1000]"
    assert student["gap closed, tp corr"] == "25 %"
    assert "Of tp corr, lower is better." in text


@pytest.mark.parametrize(("true_score", "fraction"), [(0.8, "0.250"), (0.0, ""), (-0.4, "")])
def test_fraction_is_blank_if_true_rates_score_at_most_zero(capsys: Any, true_score: float, fraction: str) -> None:
    print_scores("x", {"co_bps": 0.2}, {"co_bps": true_score}, Path("run"))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "co-bps" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["co-bps", "0.2000", f"{true_score:.4f}", fraction]


def test_no_differences_without_a_baseline(tmp_path: Path, capsys: Any) -> None:
    write_run(tmp_path, "x_hard")
    assert difference_table(compare_runs([tmp_path])[0]).header == ["experiment"]
    write_report([str(tmp_path)])
    assert "against the baseline" not in capsys.readouterr().out


def test_report_is_printed_and_written(runs: Path, capsys: Any) -> None:
    write_report([str(runs)])
    markdown = (runs / "report/report.md").read_text()
    html = (runs / "report/report.html").read_text()
    printed = capsys.readouterr().out
    for text in (markdown, html):
        assert "simulated, 20 ms: scored on val, checkpoints selected on train_holdout (30 trials)" in text
        assert "+0.0500 [+0.0500, +0.0500]" in text
    assert "[+0.0500, +0.0500]" in printed
    assert "…" not in printed
    assert (runs / "report/simulated-val-20ms-scores.png").read_bytes().startswith(b"\x89PNG")


def test_update_doc_replaces_the_block(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "NOTES.md"
    path.write_text("before\n<!-- x:begin -->\n<!-- x:end -->\nafter\n")
    write_report([str(runs)], update_doc=f"{path}#x")
    first, *table, last = path.read_text().strip().splitlines()
    assert (first, last) == ("before", "after")
    assert table[1].startswith("| experiment | seeds | co-bps")
    assert sum("+0.0500 [+0.0500, +0.0500]" in line for line in table) == 1


def test_html_is_self_contained(runs: Path) -> None:
    write_report([str(runs)])
    sources = re.findall(r'(?:src|href)="([^"]{,30})', (runs / "report/report.html").read_text())
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")


def test_different_splits_have_separate_tables(runs: Path) -> None:
    write_run(runs, "x_large", 0, phase="test", selection="train_holdout (40 trials)")
    write_report([str(runs)], str(runs / "out"))
    text = (runs / "out/report.md").read_text()
    assert text.count("\n## ") == 2
    assert "x_large" not in text.split("scored on test")[0]


def test_few_seeds_and_missing_checkpoints_are_noted(tmp_path: Path) -> None:
    write_run(tmp_path, "x_hard<b>")
    write_report([str(tmp_path)])
    markdown = (tmp_path / "report/report.md").read_text()
    assert "Fewer than 3 seeds" in markdown
    assert "No rates of x_hard<b> in the figures: there is no checkpoint" in markdown
    assert "<b>" not in (tmp_path / "report/report.html").read_text()


@pytest.mark.parametrize(("selection", "is_noted"), [("val (30 trials)", True), ("train_holdout (30 trials)", False)])
def test_selection_on_scored_trials_is_noted(tmp_path: Path, selection: str, is_noted: bool) -> None:
    write_run(tmp_path, "x_hard", selection=selection)
    write_report([str(tmp_path)])
    assert ("scores are optimistic" in (tmp_path / "report/report.md").read_text()) is is_noted


def test_report_without_matplotlib_has_tables(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(blend_pl.report, "figures", raising=False)
    monkeypatch.setitem(sys.modules, "blend_pl.report.figures", None)
    write_report([str(runs)])
    text = (runs / "report/report.md").read_text()
    assert 'run pip install "blend-pl[plot]"' in text
    assert "x_baseline" in text


def test_unwritable_folder_raises(runs: Path) -> None:
    (runs / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        write_report([str(runs)], str(runs / "file"))


def test_cost_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, seconds in ((0, 0.02), (1, 0.04)):
        write_run(tmp_path, "x_baseline", seed, cost=Cost(12345, seconds, 500_000_000))
    write_run(tmp_path, "x_smoothing")
    write_report([str(tmp_path)], str(tmp_path / "report"))
    assert "Cost of training" in capsys.readouterr().out
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| baseline | 12,345 | 0.030 | 500 |" in text
    assert "<td>12,345</td>" in (tmp_path / "report" / "report.html").read_text()
    assert text.count("| smoothing |") == 1
