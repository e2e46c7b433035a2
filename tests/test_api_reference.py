"""The API reference that `make docs` builds, and the docstrings it is built from."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import REPOSITORY

import blend_pl

PACKAGES = ["blend_pl"] + [
    module.name for module in pkgutil.walk_packages(blend_pl.__path__, prefix="blend_pl.") if module.ispkg
]


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_have_docstrings(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__doc__
    for public_name in getattr(package, "__all__", ()):
        assert getattr(package, public_name).__doc__, public_name


@pytest.mark.slow
def test_reference_builds_without_warnings(tmp_path: Path) -> None:
    script = REPOSITORY / ".ci" / "build_api_reference.py"
    result = subprocess.run(
        [sys.executable, script, tmp_path], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    assert result.stderr == ""
    page = (tmp_path / "blend_pl.html").read_text()
    for name in blend_pl.__all__:
        assert f'id="{name}"' in page or (tmp_path / "blend_pl" / f"{name}.html").exists(), name
    assert "pre-norm layers" in page
