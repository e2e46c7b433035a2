"""Every command and every module of the READMEs runs, with a small network and a small session."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.cli import REPOSITORY, SIMULATION, TINY, experiment
from helpers.lfp import small_stages
from helpers.nwb_files import write_maze, write_own
from helpers.readme import READMES, blocks, module_of_the_readme

from blend_pl.cli.main import run_command

MODULES = ("my_models.py", "my_fusions.py", "my_losses.py")
LINES = [line.split("  #")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]
COMMANDS = [line for line in dict.fromkeys(LINES) if "blend_pl export" not in line]
"""All but the export, which tests/export/test_command.py runs once for all tests of its files."""
SLOW = ("sweep", "multirun", "configs/logger/wandb.yaml")
RUN = re.compile(r"runs/(?P<name>\w+?)(?:_\*|/seed(?P<seed>\d+)-xxxxxxxx.*)?")
"""An argument that names the run of a composition with a seed, or runs of a set."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of a user: experiments, configs, recordings, and the modules that the READMEs show."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("experiments", "configs"):
        (folder / name).symlink_to(REPOSITORY / name)
    write_maze(folder / "data")
    write_own(folder / "data" / "my_session.nwb")
    for name in MODULES:
        (folder / name).write_text(module_of_the_readme(name))
    return folder


def provide_run(name: str, seed: int, checkout: Path) -> None:
    """Trains the run that a command needs, unless another command has left it."""
    if not list(checkout.glob(f"runs/{name}/seed{seed}-*/results.json")):
        arguments = ["fit", "--config", str(experiment(name)), f"--seed_everything={seed}"]
        run_command(with_small_budget(arguments, checkout))


def with_small_budget(arguments: list[str], checkout: Path) -> list[str]:
    """Fills in the names of runs and, for a fit, adds a small network and session."""
    filled = []
    for argument in arguments:
        if "xxxxxxxx" in argument:
            argument = str(next(checkout.glob(argument.replace("xxxxxxxx", "*"))))
        filled += [str(path) for path in sorted(checkout.glob(argument))] if "*" in argument else [argument]
    command_line = shlex.join(arguments)
    if arguments[0] == "baseline":
        return [*filled, *SIMULATION]
    if arguments[0] == "multirun":
        return [*filled, "--fit_args=" + json.dumps([*SIMULATION, *TINY, "--teacher_args=" + json.dumps(TINY)])]
    if arguments[0] == "sweep":
        return [arguments[0], write_small_sweep(checkout, Path(arguments[1])), "--trials=1", *filled[4:]]
    if arguments[0] != "fit" or "--ckpt_path" in arguments:
        return filled
    if "simulated_lfp" in command_line:
        return [*filled, *small_stages()]
    network = [option for option in TINY if not option.startswith("--data")]
    training = [option for option in network if option.startswith("--trainer")]
    simulation = SIMULATION if "simulated" in command_line else []
    own = ["--data.spec.behavior.series=running"] if "own_session" in command_line else []
    student = training if "my_models" in command_line or "lfads" in command_line else network
    has_ndt_teacher = "lfads" not in command_line.partition("arm/")[0] and "arm/generative" not in command_line
    teacher = network if has_ndt_teacher else training
    return [*filled, *student, *simulation, *own, "--teacher_args=" + json.dumps(teacher)]


def write_small_sweep(checkout: Path, file: Path) -> str:
    """Writes the same sweep with a small network and session."""
    content = yaml.safe_load((checkout / file).read_text())
    content["command"][-1:-1] = [*SIMULATION, *TINY, "--teacher_args=" + json.dumps(TINY)]
    (checkout / file.name).write_text(yaml.safe_dump(content))
    return file.name


@pytest.fixture(autouse=True)
def wandb_without_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))


@pytest.mark.usefixtures("teachers_here")
@pytest.mark.parametrize(
    "command",
    [pytest.param(line, id=line, marks=pytest.mark.slow if {*SLOW} & {*line.split()} else ()) for line in COMMANDS],
)
def test_command_of_a_readme_runs(
    command: str, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    program, *arguments = words
    if program == "make":
        subprocess.run(["make", "--dry-run", *arguments], cwd=REPOSITORY, check=True, capture_output=True)
        return
    assert (program, *arguments[:2]) == ("python", "-m", "blend_pl")
    monkeypatch.chdir(checkout)
    monkeypatch.syspath_prepend(checkout)
    for match in filter(None, map(RUN.fullmatch, arguments)):
        is_set = match[0].endswith("_*")
        provide_run(f"{match['name']}_hard" if is_set else match["name"], int(match["seed"] or 0), checkout)
    capsys.readouterr()
    run_command(with_small_budget(arguments[2:], checkout))
    assert capsys.readouterr().out


@pytest.mark.parametrize("package", ["numpy", "pynapple", "temporaldata"])
def test_python_examples_of_data_run(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(package)
    examples = [block for block in blocks("python") if "from_arrays(" in block and "bp." not in block]
    packages = [next((name for name in ("pynapple", "temporaldata") if name in block), "numpy") for block in examples]
    monkeypatch.chdir(tmp_path)
    exec(compile(examples[packages.index(package)], f"example of {package}", "exec"), {})
    assert "NLBDataModule(arrays, bins of 20 ms, phase val; trials: " in capsys.readouterr().out


def test_each_extension_has_a_command() -> None:
    for name in MODULES:
        assert any(f" {Path(name).stem}." in command for command in COMMANDS), name


def test_map_lists_existing_files() -> None:
    package_map = READMES["blend_pl/README.md"].split("# Map of the package")[1]
    listed = re.findall(r"^ {4}( {2})?([a-z_]+[./][a-z/]*)", package_map, flags=re.M)
    assert len(listed) > 10
    for inside, name in listed:
        assert (REPOSITORY / ("blend_pl" if inside else "") / name).exists(), name


def test_example_of_an_experiment_is_an_experiment() -> None:
    example = next(block for block in blocks("yaml") if block.startswith("# A student that learns"))
    assert yaml.safe_load(example) == yaml.safe_load((REPOSITORY / "experiments/mc_maze_hard.yaml").read_text())


def test_front_page_is_short() -> None:
    assert len(READMES["README.md"].split()) <= 1500


@pytest.mark.parametrize("name", READMES)
def test_links_lead_to_files_and_headings(name: str) -> None:
    """A link to a heading uses GitHub's anchors: lower case, hyphens, no punctuation."""
    folder = (REPOSITORY / name).parent
    for target in re.findall(r"\]\((?!http)([^)]+)\)", READMES[name]):
        file, _, anchor = target.partition("#")
        path = Path(os.path.normpath(folder / file)) if file else REPOSITORY / name
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.M)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, target


def test_python_example_of_the_front_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = [block for block in blocks("python") if "bp.load" in block and "bp.plot.rates" in block]
    assert example.count("max_epochs=50") == 2
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example.replace("max_epochs=50", "max_epochs=1"), names)
    student, data = names["student"], names["data"]
    assert names["bp"].evaluate(student, data).keys() == {"co_bps", "vel_r2", "psth_r2", "fp_bps"}
