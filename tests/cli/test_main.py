import subprocess
import sys
from pkgutil import resolve_name

import pytest

from blend_pl.cli.main import BESIDE, HELP, TRAINER, overview, run


@pytest.mark.parametrize("name", BESIDE)
def test_a_command_is_a_function_of_its_name(name: str) -> None:
    assert resolve_name(BESIDE[name][0]).__name__ == name


def test_commands_of_the_trainer() -> None:
    from blend_pl.cli.trainer import BlendCLI

    assert set(TRAINER) == set(BlendCLI.subcommands())


@pytest.mark.parametrize("flag", HELP)
def test_overview(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([flag]) is None
    assert capsys.readouterr().out == overview() + "\n"
    listed = [line.split()[0] for line in overview().splitlines() if line.startswith("  ")]
    assert listed == [*TRAINER, *BESIDE]


def test_help_needs_none_of_the_heavy_packages() -> None:
    code = "import sys; from blend_pl.cli.main import run; run(['--help']); print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "python -m blend_pl COMMAND" in printed
    assert not {"torch", "lightning", "numpy"} & set(printed.splitlines()[-1].split())
