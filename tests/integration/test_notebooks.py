"""The notebooks run from the first cell to the last, and are stored without outputs."""

import math
import os
import re
from pathlib import Path

import nbformat
import pytest
from helpers.cli import REPOSITORY
from nbclient import NotebookClient
from nbformat import NotebookNode

from blend_pl import NeuralSystem, evaluate

FOLDER = REPOSITORY / "experiments" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ALL = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
SHORT = {"MAX_EPOCHS": 1, "SECONDS": 40}
"""Values of the constants of the cell with the tag `parameters` in a short run."""


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def parameters_cell(notebook: NotebookNode) -> NotebookNode:
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return cell


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a notebook, with the links of the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


@ALL
def test_notebook_runs_with_short_training(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = read(path)
    constants = re.findall(r"^(\w+) =", parameters_cell(notebook).source, flags=re.M)
    parameters_cell(notebook).source = "\n".join(f"{name} = {SHORT[name]}" for name in constants)
    namespace = {"__name__": "notebook"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{path.name}:{cell.id}", "exec"), namespace)
    student = namespace["student"]
    assert isinstance(student, NeuralSystem)
    assert math.isfinite(evaluate(student, student.trainer.datamodule)["vel_r2"])


@pytest.mark.slow
@ALL
def test_notebook_runs_in_a_kernel(path: Path, folder: Path) -> None:
    notebook = read(path)
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("velocity" in output.get("text", "") for output in outputs)
    has_figure = any("image/png" in output.get("data", {}) for output in outputs)
    assert has_figure or "bp.plot" not in path.read_text()


@ALL
def test_notebook_is_stored_without_outputs(path: Path) -> None:
    for cell in read(path).cells:
        assert not cell.get("outputs")
        assert not cell.get("execution_count")


@ALL
def test_links_of_notebook_lead_to_files(path: Path) -> None:
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (FOLDER / target).exists(), target


def test_every_notebook_is_listed() -> None:
    page = (FOLDER / "README.md").read_text()
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        assert f"({path.name})" in page
