"""Files at the root of the repository that describe the project."""

import re
import tomllib

import pytest
import yaml
from helpers.cli import REPOSITORY

from blend_pl.cli.main import RENAMED_COMMANDS, RENAMED_OPTIONS

CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text()
HOOKS = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PATHS = sorted(
    path
    for path in set(re.findall(r"`([\w./]+/[\w./]*|[\w]+\.(?:toml|txt|md))`", CONTRIBUTING))
    if not re.search(r"NAME|SET|^docs/$", path)
)
"""Files and folders in code font."""


@pytest.mark.parametrize("path", PATHS)
def test_contributing_names_existing_files(path: str) -> None:
    assert (REPOSITORY / path).exists()


def test_contributing_names_existing_tests_and_constants() -> None:
    source = "\n".join(path.read_text() for path in (REPOSITORY / "tests").rglob("*.py"))
    source += "\n".join(path.read_text() for path in (REPOSITORY / "blend_pl").rglob("*.py"))
    section = CONTRIBUTING.split("## How to add ...")[1].split("## Commits")[0]
    names = set(re.findall(r"`([A-Z_]{4,}|test_\w+|fit_\w+|[A-Z][a-z]+[A-Z]\w+)`", section))
    assert len(names) > 6
    for name in names - {"NAME"}:
        assert re.search(rf"^\s*(?:def |class )?{name}\b", source, flags=re.M), name


def test_contributing_lists_the_import_layers_in_order() -> None:
    layers = re.search(r"errors:\n\n(.*?)\n\n", CONTRIBUTING, flags=re.S)
    assert layers
    described = [group.split(", ") for group in " ".join(layers[1].split()).split(" -> ")]
    contract = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    modules = [[module.strip().removeprefix("blend_pl.") for module in layer.split("|")] for layer in contract]
    ranks = {module: rank for rank, layer in enumerate(modules) for module in layer}
    positions = [ranks[module] for group in described for module in group]
    assert positions == sorted(positions)
    assert set(ranks) - {module for group in described for module in group} <= {"__main__", "prediction", "compat"}


def test_changelog_names_renamed_commands_and_options() -> None:
    for former, current in RENAMED_COMMANDS.items():
        assert f"`{former}`" in CHANGELOG
        assert f"`{current}`" in CHANGELOG
    for options in RENAMED_OPTIONS.values():
        for former, current in options.items():
            assert f"`--{former}`" in CHANGELOG
            assert f"`--{current.replace('_', '-')}`" in CHANGELOG


def test_citation_has_required_keys_and_the_version_of_the_changelog() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert citation["version"] == re.findall(r"^## \[(\S+)\]", CHANGELOG, flags=re.M)[0]
    papers = {identifier["value"] for paper in citation["references"] for identifier in paper["identifiers"]}
    assert {"arXiv:2410.13872", "arXiv:2512.12461"} <= papers
    assert all(paper["authors"] and paper["title"] and paper["type"] for paper in citation["references"])


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_hook_has_an_environment_with_pinned_versions(hook: dict[str, object]) -> None:
    pins = (REPOSITORY / "constraints.txt").read_text().split()
    assert hook["language"] == "python"
    assert ".venv" not in str(hook["entry"])
    assert hook["additional_dependencies"]
    assert set(hook["additional_dependencies"]) <= set(pins)  # type: ignore[call-overload]


def test_continuous_integration_tests_every_python_and_both_ends_of_the_dependencies() -> None:
    jobs = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert PYPROJECT["project"]["requires-python"] == f">={matrix['python'][0]}"
    assert {*matrix["resolution"], *(entry["resolution"] for entry in matrix["include"])} == {
        "highest",
        "locked",
        "lowest-direct",
    }
    lowest = re.search(r"^TORCH_lowest-direct := (torch)==(\S+)$", (REPOSITORY / "Makefile").read_text(), flags=re.M)
    assert lowest
    assert f"torch>={'.'.join(lowest[2].split('.')[:2])}" in PYPROJECT["project"]["dependencies"]
