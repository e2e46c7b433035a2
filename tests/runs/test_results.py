"""Results of runs: writing, reading, versions and roles."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.results import make_results

from blend_pl.errors import DataError
from blend_pl.runs import results
from blend_pl.runs.results import (
    BASELINE,
    CONTROL,
    RESULTS_FILE,
    RESULTS_VERSION,
    STUDENT,
    TEACHER,
    Cost,
    Results,
    derive_role,
)


def new_results(**changes: Any) -> Results:
    """Returns results with the date, versions and commit of this moment."""
    attributes = vars(make_results(**changes))
    return Results(**{name: attributes[name] for name in attributes.keys() - {"date", "versions", "commit"}})


def write_json(folder: Path, **changes: Any) -> None:
    """Writes results.json with some entries replaced, or left out where the value is `...`."""
    make_results().write(folder)
    content = {**json.loads((folder / RESULTS_FILE).read_text()), **changes}
    text = json.dumps({name: value for name, value in content.items() if value is not ...})
    (folder / RESULTS_FILE).write_text(text)


def test_results_round_trip_with_versions_and_commit(tmp_path: Path) -> None:
    config = {"model": [1, None], "data": {"init_args": {}}}
    written = new_results(name="maze", scores={"co_bps": 0.25}, config=config, cost=Cost(10, 0.5, 1000, 2))
    written.write(tmp_path)
    read = Results.read(tmp_path)
    assert read == written
    assert read.name == "maze"
    assert read.scores == {"co_bps": 0.25}
    assert read.config == config
    assert read.versions["torch"] == torch.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", read.date)
    assert read.commit is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", read.commit)


def refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_results_are_strict_json_for_numbers_that_are_not_finite(tmp_path: Path, value: float) -> None:
    config = {"data": {"init_args": {"limit": value, "limits": [1.0, {"x": value}]}}, "name": "inf"}
    scores = {"co_bps": 0.25, "vel_r2": value}
    new_results(scores=scores, selected={"val/co_bps": value}, oracle=dict(scores), config=config).write(tmp_path)
    content = json.loads((tmp_path / RESULTS_FILE).read_text(), parse_constant=refuse_constant)
    assert content["scores"] == {"co_bps": 0.25, "vel_r2": None}
    assert content["selected"] == {"val/co_bps": None}
    read = Results.read(tmp_path)
    assert read.scores["co_bps"] == 0.25
    assert read.oracle == {"co_bps": 0.25}
    for number in (read.scores["vel_r2"], read.selected["val/co_bps"]):
        assert math.isnan(number)
    settings = read.config["data"]["init_args"]
    assert str([settings["limit"], settings["limits"][1]["x"]]) == str([value, value])
    assert read.config["name"] == "inf"


def test_json_has_the_keys_of_version_1_and_version_and_role(tmp_path: Path) -> None:
    new_results(cost=Cost(10, 0.5, 1000)).write(tmp_path)
    content = json.loads((tmp_path / RESULTS_FILE).read_text())
    assert set(content) == {
        *("version", "role", "name", "session", "seed", "fingerprint", "phase", "selection", "teachers", "checkpoint"),
        *("epoch", "selected", "scores", "oracle", "cost", "config", "date", "versions", "commit", "digest"),
    }
    assert (content["version"], content["teachers"]) == (RESULTS_VERSION, [])
    assert content["cost"] == {"parameters": 10, "seconds_per_step": 0.5, "peak_bytes": 1000}


def test_results_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    make_results(scores={"co_bps": 1.0}).write(tmp_path)
    with pytest.raises(TypeError):
        make_results(scores={"co_bps": object()}).write(tmp_path)
    assert Results.read(tmp_path).scores == {"co_bps": 1.0}
    make_results(scores={"co_bps": 2.0}).write(tmp_path)
    assert Results.read(tmp_path).scores == {"co_bps": 2.0}
    assert [path.name for path in tmp_path.iterdir()] == [RESULTS_FILE]


def test_results_are_indented(tmp_path: Path) -> None:
    make_results(scores={"co_bps": 0.25}).write(tmp_path)
    text = (tmp_path / RESULTS_FILE).read_text()
    assert '\n    "co_bps": 0.25' in text
    assert text.endswith("}\n")


def test_commit_is_none_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "__file__", str(tmp_path / "results.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    new_results().write(tmp_path)
    assert Results.read(tmp_path).commit is None


def test_unfinished_and_damaged_runs_raise_different_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has not finished") as unfinished:
        Results.read(tmp_path)
    (tmp_path / RESULTS_FILE).write_text(json.dumps({"scores": {"co_bps": 1}}, indent=2)[:-5])
    with pytest.raises(DataError, match="cannot read") as damaged:
        Results.read(tmp_path)
    assert "\n" not in str(unfinished.value) + str(damaged.value)


def test_unwritable_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(DataError, match="choose another folder"):
        make_results().write(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"session": ...}, "lacks 'session'"),
        ({"role": ...}, "lacks 'role'"),
        ({"config": {"output": "runs"}}, "lacks 'data'"),
        ({"config": {"data": {"init_args": None}}}, "config.data.init_args is NoneType, not dict"),
        ({"name": 3}, "name is int, not str"),
        ({"seed": "0"}, "seed is str, not int"),
        ({"seed": True}, "seed is bool, not int"),
        ({"seed": 0.0}, "seed is float, not int"),
        ({"checkpoint": 3}, "checkpoint is int, not str or null"),
        ({"scores": [0.1]}, "scores is list, not dict"),
        ({"scores": {"co_bps": "high"}}, "scores.co_bps is str, not int or float"),
        ({"oracle": {"co_bps": None}}, "oracle.co_bps is NoneType, not int or float"),
        ({"cost": {"parameters": 3}}, "lacks 'seconds_per_step'"),
        ({"teachers": [None]}, "teachers is NoneType, not str"),
        ({"role": "referee"}, "role 'referee' is none of baseline, teacher, student, control"),
        ({"version": RESULTS_VERSION + 1}, f"its version is {RESULTS_VERSION + 1}, and this blend-pl reads 1 to"),
        ({"version": "2"}, "its version is 2, and this blend-pl reads 1 to"),
    ],
)
def test_missing_and_mistyped_entries_raise(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_json(tmp_path, **changes)
    with pytest.raises(DataError, match=re.escape(message)) as raised:
        Results.read(tmp_path)
    assert str(tmp_path / RESULTS_FILE) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_other_json_raises(tmp_path: Path, text: str) -> None:
    (tmp_path / RESULTS_FILE).write_text(text)
    with pytest.raises(DataError, match="not an object"):
        Results.read(tmp_path)


def test_version_1_gets_its_role_from_its_settings(tmp_path: Path) -> None:
    config = {**make_results().config, "model": {"class_path": "blend_pl.systems.Teacher"}}
    write_json(tmp_path, version=..., role=..., config=config)
    read = Results.read(tmp_path)
    assert (read.role, read.version) == (TEACHER, RESULTS_VERSION)
    assert read.scores == make_results().scores


@pytest.mark.parametrize(
    ("name", "system", "settings", "role"),
    [
        ("x_baseline", "Student", {}, BASELINE),
        ("x_ss_lfp", "SingleSessionStudent", {}, BASELINE),
        ("x_teacher", "Teacher", {}, TEACHER),
        ("x_teacher", "SpikeTeacher", {}, TEACHER),
        ("x_finetuned", "SingleSessionTeacher", {"pretrained": {"class_path": "p"}}, TEACHER),
        ("x_multimodal", "Multimodal", {}, CONTROL),
        ("x_hard", "Student", {"distillation": {"class_path": "d"}}, STUDENT),
        ("x_ms_distilled", "LFPStudent", {"distillation": {"class_path": "d"}}, STUDENT),
        ("x_supervised", "LFPDecoder", {"distillation": {"class_path": "d"}}, STUDENT),
        ("x_self", "Student", {"distillation": {"class_path": "d"}}, CONTROL),
        ("x_with_behavior", "Teacher", {}, CONTROL),
        ("x_multitask", "Student", {"multitask": {"class_path": "m"}}, CONTROL),
        ("x_ms_lfp", "LFPStudent", {}, CONTROL),
        ("x_ms_supervised", "LFPDecoder", {}, CONTROL),
    ],
)
def test_role_is_derived_from_the_settings(name: str, system: str, settings: dict[str, Any], role: str) -> None:
    config = {"name": name, "model": {"class_path": f"blend_pl.systems.{system}"}, "distillation": None, **settings}
    assert derive_role(config) == role


def test_run_without_a_network_is_a_baseline() -> None:
    assert derive_role({"name": "x_glm", "model": {"plain": "glm"}}) == BASELINE
    results_of_glm = make_results(checkpoint=None, epoch=None, config={"model": {"plain": "glm"}})
    assert not results_of_glm.has_network
    assert results_of_glm.system_class == ""
