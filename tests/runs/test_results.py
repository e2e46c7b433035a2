import json
import re
from pathlib import Path

import pytest
import torch

from blend_pl.errors import DataError
from blend_pl.runs import results
from blend_pl.runs.results import RESULTS_FILE, read_results, write_results


def test_results_come_back_with_what_is_needed_to_repeat_them(tmp_path: Path) -> None:
    write_results(tmp_path, name="maze", scores={"co_bps": 0.25}, config={"model": [1, None]})
    found = read_results(tmp_path)
    assert found["name"] == "maze"
    assert found["scores"] == {"co_bps": 0.25}
    assert found["config"] == {"model": [1, None]}
    assert found["versions"]["torch"] == torch.__version__
    assert set(found) == {"name", "scores", "config", "date", "versions", "commit"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", found["date"])
    assert found["commit"] is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", found["commit"])


def test_results_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    write_results(tmp_path, scores=1)
    with pytest.raises(TypeError):
        write_results(tmp_path, scores=object())
    assert read_results(tmp_path)["scores"] == 1
    write_results(tmp_path, scores=2)
    assert read_results(tmp_path)["scores"] == 2
    assert [path.name for path in tmp_path.iterdir()] == [RESULTS_FILE]


def test_results_are_meant_to_be_read(tmp_path: Path) -> None:
    write_results(tmp_path, scores={"co_bps": 0.25})
    text = (tmp_path / RESULTS_FILE).read_text()
    assert '\n    "co_bps": 0.25' in text
    assert text.endswith("}\n")


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "__file__", str(tmp_path / "results.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    write_results(tmp_path)
    assert read_results(tmp_path)["commit"] is None


def test_unfinished_and_damaged_runs_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has not finished") as unfinished:
        read_results(tmp_path)
    (tmp_path / RESULTS_FILE).write_text(json.dumps({"scores": {"co_bps": 1}}, indent=2)[:-5])
    with pytest.raises(DataError, match="cannot read") as damaged:
        read_results(tmp_path)
    assert "\n" not in str(unfinished.value) + str(damaged.value)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(DataError, match="choose another folder"):
        write_results(tmp_path / "run")
