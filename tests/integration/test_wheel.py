"""The wheel: its files, its dependencies, and a fit from an empty folder."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from helpers.cli import CONFIGS, EXPERIMENTS, REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import blend_pl
from blend_pl.config import compose_experiment

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
GROUPS: dict[str, list[str | dict[str, str]]] = PROJECT["dependency-groups"]
EXPERIMENT = "experiments/simulated_baseline.yaml"


def requirements(lines: list[str]) -> dict[str, Requirement]:
    """Returns requirements by canonical name, without the package itself."""
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each for each in parsed if each.name != PROJECT["project"]["name"]}


CORE = requirements(PROJECT["project"]["dependencies"])
OPTIONAL = requirements([line for lines in EXTRAS.values() for line in lines])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def files_in(folder: Path) -> set[str]:
    """Returns the paths of the files below a folder that version control does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return {path for path in listed.stdout.splitlines() if (folder / path).exists()}


def test_wheel_contains_package_configs_and_experiments(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {f"blend_pl/{path}" for path in files_in(REPOSITORY / "blend_pl")}
    for folder in (CONFIGS, EXPERIMENTS):
        expected |= {f"blend_pl/share/{folder.name}/{path}" for path in files_in(folder)}
    assert names == expected
    assert f"blend_pl/share/{EXPERIMENT}" in names


def test_wheel_has_the_version_of_the_package(wheel: Path) -> None:
    assert wheel.name.split("-")[1] == blend_pl.__version__


def test_unpacked_wheel_composes_its_experiments_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    code = f"""
import json, blend_pl
from pathlib import Path
from blend_pl.config import compose_experiment
print(json.dumps([blend_pl.__file__, compose_experiment([Path({EXPERIMENT!r})])]))
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=tmp_path / "empty", env=environment, check=True, capture_output=True).stdout
    module, settings = json.loads(printed)
    assert Path(module).is_relative_to(tmp_path)
    assert settings == compose_experiment([REPOSITORY / EXPERIMENT])


def imported_packages(path: Path) -> Iterator[str]:
    """Yields the top-level packages that a module imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def top_level_names(distribution: str) -> set[str]:
    """Returns the names of the top-level packages and modules of an installed distribution."""
    record = metadata.distribution(distribution).read_text("RECORD") or ""
    return {line.split(",")[0].split("/")[0].removesuffix(".py") for line in record.splitlines()}


def test_imports_are_the_declared_dependencies() -> None:
    imported = {name for path in (REPOSITORY / "blend_pl").rglob("*.py") for name in imported_packages(path)}
    # _typeshed exists for type checkers only; hdmf-zarr needs another version of zarr than dandi, so it is no extra.
    third_party = imported - sys.stdlib_module_names - {"blend_pl", "_typeshed", "hdmf_zarr"}
    provided = {name: top_level_names(name) for name in CORE.keys() | OPTIONAL.keys()}
    assert third_party - set().union(*provided.values()) == set()
    assert {name for name, modules in provided.items() if not modules & third_party} == set()


def test_extra_all_has_every_other_extra() -> None:
    (line,) = EXTRAS["all"]
    assert Requirement(line).extras == EXTRAS.keys() - {"all", "viz"}


def test_constraints_pin_a_version_of_every_dependency() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [re.fullmatch(r"([a-z0-9-]+)==(\S+)", line) for line in lines if not line.startswith("#")]
    versions = {pin[1]: Version(pin[2]) for pin in pins if pin}
    assert len(versions) == len(pins)
    groups = requirements([line for lines in GROUPS.values() for line in lines if isinstance(line, str)])
    needed = {**CORE, **OPTIONAL, **groups}
    # The Makefile chooses PyTorch.
    assert needed.keys() - versions.keys() == {"torch"}
    allowed = {name: name == "torch" or versions[name] in needed[name].specifier for name in needed}
    assert [name for name, is_allowed in allowed.items() if not is_allowed] == []


def closure(names: list[str]) -> set[str]:
    """Returns the installed distributions that requirements need, directly or through others."""
    remaining, visited = [Requirement(name) for name in names], set()
    while remaining:
        requirement = remaining.pop()
        for extra in requirement.extras or {""}:
            key = (canonicalize_name(requirement.name), extra)
            if key in visited:
                continue
            visited.add(key)
            for line in metadata.requires(requirement.name) or []:
                dependency = Requirement(line)
                if dependency.marker is None or dependency.marker.evaluate({"extra": extra}):
                    remaining.append(dependency)
            if extra:
                remaining.append(Requirement(requirement.name))
    return {name for name, _ in visited}


def make_environment(folder: Path, wheel: Path) -> Path:
    """Returns the Python of a new environment that has the wheel and links to the installed core dependencies only."""
    venv.create(folder, symlinks=True)
    python = folder / "bin/python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())
    for name in closure(PROJECT["project"]["dependencies"]):
        distribution = metadata.distribution(name)
        for entry in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (site / entry).exists():
                (site / entry).symlink_to(Path(str(distribution.locate_file(entry))))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    return python


@pytest.mark.slow
def test_installed_wheel_fits_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "environment", wheel)
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*command: str | Path) -> str:
        result = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    program = python.parent / "blend_pl"
    assert run(program, "--version").splitlines()[0] == f"blend_pl {blend_pl.__version__}"
    located = run(python, "-c", "import blend_pl; print(blend_pl.__file__)")
    assert Path(located.strip()).is_relative_to(tmp_path)
    optional = ["pynwb", "dandi", "wandb", "matplotlib", "optuna", "onnx", "pandas"]
    assert run(python, "-c", f"from importlib.util import find_spec; print(*map(find_spec, {optional}))").split() == [
        "None"
    ] * len(optional)
    run(program, "fit", EXPERIMENT, "--trainer.max_epochs", "1")
    (results,) = empty.glob("runs/simulated_baseline/*/results.json")
    assert "co_bps" in json.loads(results.read_text())["scores"]
