"""Tests of the text of data files."""

import yaml

from blend_pl.data.io.data_file import DataFile

DATA_FILE = DataFile(
    experiment="experiments/makin.yaml",
    arm="hard",
    class_path="blend_pl.data.NLBDataModule",
    spec={"name": "rat: 3", "window": {"align": None, "stop_ms": 600}, "units": ["a", 1]},
    arguments={"bin_ms": 20},
    reasons={"bin_ms": "0.3 spikes per bin", "window": "no trials"},
    sizes="3 train",
)


def test_text_holds_the_settings() -> None:
    data = yaml.safe_load(DATA_FILE.to_yaml("my data"))["data"]
    assert data["class_path"] == "blend_pl.data.NLBDataModule"
    assert data["init_args"] == {"root": "my data", "bin_ms": 20, "spec": dict(DATA_FILE.spec)}


def test_reasons_precede_their_settings() -> None:
    lines = DATA_FILE.to_yaml("data").splitlines()
    assert lines[lines.index("    bin_ms: 20") - 1] == "    # 0.3 spikes per bin"
    assert lines[lines.index("      window: {align: null, stop_ms: 600}") - 1] == "      # no trials"


def test_command_trains_with_the_file_after_the_set() -> None:
    expected = "blend_pl fit --config experiments/makin.yaml --config a.yaml --config configs/arm/hard.yaml"
    assert DATA_FILE.command("a.yaml") == expected
    assert f"#   {DATA_FILE.command('THIS_FILE')}" in DATA_FILE.to_yaml("data")
