import subprocess
import sys
from pkgutil import resolve_name

import pytest

from blend_pl.cli.main import FUNCTION_COMMANDS, HELP_FLAGS, TRAINER_COMMANDS, format_help, run_command


@pytest.mark.parametrize("name", FUNCTION_COMMANDS)
def test_function_commands_resolve_to_functions(name: str) -> None:
    assert callable(resolve_name(FUNCTION_COMMANDS[name][0]))


def test_commands_of_the_trainer() -> None:
    from lightning.pytorch.cli import LightningCLI

    assert set(TRAINER_COMMANDS) == set(LightningCLI.subcommands())


@pytest.mark.parametrize("flag", HELP_FLAGS)
def test_overview(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([flag]) is None
    assert capsys.readouterr().out == format_help() + "\n"
    listed = [line.split()[0] for line in format_help().splitlines() if line.startswith("  ")]
    assert listed == [*TRAINER_COMMANDS, *FUNCTION_COMMANDS]


def test_help_needs_none_of_the_heavy_packages() -> None:
    code = "import sys; from blend_pl.cli.main import run_command; run_command(['--help']); print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "python -m blend_pl COMMAND" in printed
    assert not {"torch", "lightning", "numpy"} & set(printed.splitlines()[-1].split())
