"""The commands of the command line."""

import subprocess
import sys
from collections.abc import Sequence
from pkgutil import resolve_name

import pytest

from blend_pl import __version__
from blend_pl.cli.main import (
    FUNCTION_COMMANDS,
    HELP_FLAGS,
    TRAINER_COMMANDS,
    format_help,
    run_command,
    run_function_command,
)
from blend_pl.errors import ConfigError


@pytest.mark.parametrize("name", FUNCTION_COMMANDS)
def test_function_commands_resolve_to_functions(name: str) -> None:
    assert callable(resolve_name(FUNCTION_COMMANDS[name][0]))


def test_trainer_commands_are_those_of_lightning() -> None:
    from lightning.pytorch.cli import LightningCLI

    assert set(TRAINER_COMMANDS) == set(LightningCLI.subcommands())


@pytest.mark.parametrize("flag", HELP_FLAGS)
def test_help_lists_all_commands(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([flag]) is None
    assert capsys.readouterr().out == format_help() + "\n"
    listed = [line.split()[0] for line in format_help().splitlines() if line.startswith("  ")]
    assert listed == [*TRAINER_COMMANDS, *FUNCTION_COMMANDS]


@pytest.mark.parametrize(
    ("flag", "line"), [("--help", "python -m blend_pl COMMAND"), ("--version", f"blend_pl {__version__}\ntorch ")]
)
def test_help_and_version_import_no_heavy_package(flag: str, line: str) -> None:
    code = f"import sys; from blend_pl.cli.main import run_command; run_command(['{flag}']); print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert line in printed
    assert not {"torch", "lightning", "numpy"} & set(printed.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("arguments", "new_name"),
    [
        (["many", "a.yaml"], "multirun"),
        (["plain", "a.yaml"], "baseline"),
        (["multirun", "a.yaml", "--points=[{}]"], "--overrides"),
        (["multirun", "a.yaml", "--together", "3"], "--max-parallel"),
        (["sweep", "a.yaml", "--together=3"], "--max-parallel"),
        (["report", "runs", "--into", "README.md#x"], "--update-doc"),
    ],
)
def test_former_names_are_refused_with_the_new_one(arguments: list[str], new_name: str) -> None:
    with pytest.raises(ConfigError, match=f"is now named {new_name}; "):
        run_command(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.yaml", "b.yaml", "--max-parallel", "3", "--data.bins=2", "--dry-run"],
        ["--config", "a.yaml", "--max_parallel=3", "--config=b.yaml", "--data.bins", "2", "--dry_run"],
        ["a.yaml+b.yaml", "--dry-run=true", "--data.bins=2", "--max-parallel=3"],
        ["a.yaml", "--config=b.yaml", "--data.bins=2", "--dry-run=true", "--max_parallel", "3"],
        ["a.yaml", "b.yaml", "--dry-run", "true", "--data.bins=2", "--max_parallel", "3"],
    ],
)
def test_function_command_takes_experiments_and_options(arguments: list[str]) -> None:
    calls = []

    def command(experiment: str, max_parallel: int = 1, dry_run: bool = False, data: Sequence[str] = ()) -> None:
        calls.append((experiment, max_parallel, dry_run, [*data]))

    run_function_command("command", command, arguments)
    assert calls == [("a.yaml+b.yaml", 3, True, ["--data.bins=2"])]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seeds", "0,1"],
        ["--seeds", "0", "1"],
        ["--seeds=0,1"],
        ["--seeds=[0,1]"],
        ["--seeds", "[0, 1]"],
        ["--seeds", "0,", "1"],
    ],
)
def test_lists_of_integers_are_accepted_in_all_forms(arguments: list[str]) -> None:
    calls = []

    def command(experiment: str, seeds: list[int] | None = None, output: str = "runs") -> None:
        calls.append((experiment, seeds, output))

    run_function_command("command", command, ["a.yaml", *arguments, "--output", "x"])
    assert calls == [("a.yaml", [0, 1], "x")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["fti"], "did you mean fit?"), (["multirun", "a.yaml", "--sedes", "[0]"], "did you mean seeds?")],
)
def test_mistyped_command_or_option_has_a_suggestion(arguments: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        run_command(arguments)
    assert str(error.value).endswith(expected)
