"""Tests of specs that are loaded by name."""

from pathlib import Path

import pytest
from helpers.specs import AREA2_BUMP, DMFC_RSG, MC_MAZE, MC_MAZE_SMALL, MC_RTT

from blend_pl.config import compose
from blend_pl.data import NLBDataModule, SessionSpec
from blend_pl.data.nlb.named_spec import load_spec
from blend_pl.errors import ConfigError


@pytest.mark.parametrize("spec", [MC_MAZE, MC_MAZE_SMALL, MC_RTT, AREA2_BUMP, DMFC_RSG], ids=lambda spec: spec.name)
def test_sets_are_loaded_by_name(spec: SessionSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = NLBDataModule(spec.name).spec
    assert loaded.archive is not None
    for field in ("name", "window", "behavior", "held_out", "split", "psth", "decode_by", "scoring_window", "timing"):
        assert getattr(loaded, field) == getattr(spec, field)


def test_spec_in_the_working_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs" / "data"
    folder.mkdir(parents=True)
    text = "{name: mine, files: {train: a.nwb}, window: {start_ms: 0, stop_ms: 100}}"
    (folder / "mine.yaml").write_text(f"data: {{class_path: blend_pl.data.NLBDataModule, init_args: {{spec: {text}}}}}")
    assert load_spec("mine").files.train == "a.nwb"
    mistyped = (folder / "mine.yaml").read_text().replace("stop_ms", "stpo_ms")
    (folder / "mine.yaml").write_text(mistyped)
    with pytest.raises(ConfigError, match="stpo_ms") as raised:
        load_spec("mine")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["mc_mase", "flint", "../data/mc_maze"])
def test_unknown_name_lists_the_sets(name: str) -> None:
    with pytest.raises(ConfigError, match=r"available: .*area2_bump, .*mc_maze, .*mc_rtt") as raised:
        NLBDataModule(name)
    assert "flint," not in str(raised.value)


def test_name_in_yaml_replaces_the_spec_of_earlier_files(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("data: {init_args: {bin_ms: 20, spec: mc_maze}}")
    (tmp_path / "mine.yaml").write_text("base: [base.yaml]\ndata: {init_args: {spec: mc_rtt}}")
    (tmp_path / "last.yaml").write_text("data: {init_args: {spec: {behavior: {lag_ms: 60}}}}")
    init_args = compose(tmp_path / "mine.yaml", tmp_path / "last.yaml")["data"]["init_args"]
    assert init_args["bin_ms"] == 20
    assert init_args["spec"]["name"] == "mc_rtt"
    assert "psth" not in init_args["spec"]
    assert init_args["spec"]["behavior"] == {"series": "finger_vel", "lag_ms": 60}
