"""Every command and every piece of code in the README is run, in the README's order, with a smaller budget."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from helpers.cli import REPOSITORY, SIMULATION, TINY
from helpers.lfp import small_stages
from helpers.nwb_files import write_maze, write_own
from helpers.readme import README, blocks, module_of_the_readme

from blend_pl.cli.main import run_command

MODULES = ("my_models.py", "my_fusions.py", "my_losses.py")
LINES = [line.split("  #")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]
# The command that exports is run by tests/export/test_command.py, once for all that is to be said of its files.
SLOW = ("sweep", "multirun", "configs/logger/wandb.yaml")
COMMANDS = [line for line in LINES if not line.startswith("python -m blend_pl export")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: experiments, configs, recordings, and the modules that the README shows."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("experiments", "configs"):
        (folder / name).symlink_to(REPOSITORY / name)
    write_maze(folder / "data")
    write_own(folder / "data" / "my_session.nwb")
    for name in MODULES:
        (folder / name).write_text(module_of_the_readme(name))
    return folder


def smaller(arguments: list[str], folder: Path) -> list[str]:
    """The same command with names filled in and, for a fit, a network and a session that train in a moment."""
    filled = []
    for argument in arguments:
        if "xxxxxxxx" in argument:
            argument = str(next(folder.glob(argument.replace("xxxxxxxx", "*"))))
        filled += [str(path) for path in sorted(folder.glob(argument))] if "*" in argument else [argument]
    if arguments[0] == "baseline":
        return [*filled, *SIMULATION]
    if arguments[0] == "multirun":
        return [*filled, "--fit_args=" + json.dumps([*SIMULATION, *TINY, "--teacher_args=" + json.dumps(TINY)])]
    if arguments[0] == "sweep":
        return [arguments[0], smaller_sweep(folder, Path(arguments[1])), "--trials=1", *filled[4:]]
    if arguments[0] != "fit" or "--ckpt_path" in arguments:
        return filled
    if "_lfp_" in shlex.join(arguments):
        return [*filled, *small_stages()]
    network = [option for option in TINY if not option.startswith("--data")]
    training = [option for option in network if option.startswith("--trainer")]
    simulation = SIMULATION if "simulated" in shlex.join(arguments) else []
    own = ["--data.spec.behavior.series=running"] if "own_session" in shlex.join(arguments) else []
    student = training if "my_models" in shlex.join(arguments) else network
    return [*filled, *student, *simulation, *own, "--teacher_args=" + json.dumps(network)]


def smaller_sweep(folder: Path, file: Path) -> str:
    """The same sweep with trials that train in a moment."""
    content = yaml.safe_load((folder / file).read_text())
    content["command"][-1:-1] = [*SIMULATION, *TINY, "--teacher_args=" + json.dumps(TINY)]
    (folder / file.name).write_text(yaml.safe_dump(content))
    return file.name


@pytest.fixture(autouse=True)
def wandb_without_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))


@pytest.mark.usefixtures("teachers_here")
@pytest.mark.parametrize(
    "command",
    [pytest.param(line, marks=pytest.mark.slow) if {*SLOW} & {*line.split()} else line for line in COMMANDS],
)
def test_a_command_of_the_readme_runs(
    command: str, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = shlex.split(command)
    if program == "make":
        subprocess.run(["make", "--dry-run", *arguments], cwd=REPOSITORY, check=True, capture_output=True)
        return
    assert (program, *arguments[:2]) == ("python", "-m", "blend_pl")
    monkeypatch.chdir(checkout)
    monkeypatch.syspath_prepend(checkout)
    run_command(smaller(arguments[2:], checkout))
    assert capsys.readouterr().out


def test_each_extension_has_a_command() -> None:
    for name in MODULES:
        assert any(f" {Path(name).stem}." in command for command in COMMANDS), name


def test_the_map_names_what_exists() -> None:
    listed = re.findall(r"^ {4}( {2})?([a-z_]+[./][a-z]*)", README.split("## Map of the package")[1], flags=re.M)
    assert len(listed) > 10
    for inside, name in listed:
        assert (REPOSITORY / ("blend_pl" if inside else "") / name).exists(), name


def test_the_example_of_an_experiment_is_an_experiment() -> None:
    example = next(block for block in blocks("yaml") if block.startswith("# A student that copies"))
    assert yaml.safe_load(example) == yaml.safe_load((REPOSITORY / "experiments/mc_maze_hard.yaml").read_text())
