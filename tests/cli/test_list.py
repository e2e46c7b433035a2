"""Command `list`."""

from pathlib import Path

import pytest
from helpers.cli import CONFIGS, EXPERIMENTS

from blend_pl.cli.list import TITLES, find_files, list_experiments, read_description
from blend_pl.cli.main import run_command
from blend_pl.config import ROLE_KEY, compose
from blend_pl.errors import ConfigError


@pytest.fixture(autouse=True)
def empty_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_sets_are_the_experiments_without_an_arm() -> None:
    sets = {path.name for path in find_files("sets")}
    experiments = {path.name for path in EXPERIMENTS.glob("simulated*.yaml")}
    assert sets & experiments == {name for name in experiments if ROLE_KEY not in compose(EXPERIMENTS / name)}
    assert "mc_maze.yaml" in sets
    assert "mc_maze_hard.yaml" not in sets


def test_every_file_begins_with_a_description() -> None:
    paths = [*CONFIGS.glob("*/*.yaml"), *EXPERIMENTS.glob("**/*.yaml")]
    assert [path for path in paths if len(read_description(path).split()) < 3] == []


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("# One sentence (Flint et al., 2012). Another.\na: 1", "One sentence (Flint et al., 2012)."),
        ("# Over two\n# lines. And more\na: 1\n# later", "Over two lines."),
        ("a: 1\n# later", ""),
    ],
)
def test_description_is_the_first_sentence_of_the_first_comment(tmp_path: Path, text: str, description: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert read_description(tmp_path / "a.yaml") == description


def test_all_kinds_are_listed_with_the_command_that_composes_them(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["list"])
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    for kind in TITLES:
        assert TITLES[kind] in lines
        for path in find_files(kind):
            assert [line for line in lines if line.split() == [path.stem, *read_description(path).split()]]
    assert "blend_pl fit experiments/SET.yaml --config" in printed


def test_one_kind_includes_own_files(capsys: pytest.CaptureFixture[str]) -> None:
    Path("configs/arm").mkdir(parents=True)
    Path("configs/arm/mine.yaml").write_text("# My arm.\nrole: control\n")
    list_experiments(["arms"])
    printed = capsys.readouterr().out
    assert "My arm." in printed
    assert TITLES["models"] not in printed


def test_unknown_kind_raises() -> None:
    with pytest.raises(ConfigError, match="arms"):
        run_command(["list", "teachers"])
