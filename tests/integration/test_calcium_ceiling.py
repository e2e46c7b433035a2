"""The script that measures what populations of simulated cells tell about behavior and cell types."""

import runpy
import sys

import numpy as np
import pytest
from helpers.cli import REPOSITORY

from blend_pl.data.calcium.simulation import BugeonSimulation

SCRIPT = REPOSITORY / "experiments" / "calcium_ceiling.py"


def test_a_cell_is_absent_from_the_summaries_that_predict_it() -> None:
    names = runpy.run_path(str(SCRIPT))
    (recording,) = names["simulate"](BugeonSimulation(n_mice=1, n_sessions=1, n_frames=200, n_cells=40, seed=3))
    vectors = names["component_vectors"](recording)
    loadings = names["cell_loadings"](recording, vectors)
    train_cells = np.flatnonzero(recording.is_train)
    training = recording.activity[: recording.n_train_frames]
    for cell in (train_cells[2], np.flatnonzero(~recording.is_train)[0]):
        others = train_cells[train_cells != cell]
        population = training[:, others]
        sums = np.column_stack([population.mean(1), population.std(1), population @ vectors[train_cells != cell]])
        expected = names["ridge"]((sums - sums.mean(0)) / sums.std(0), training[:, cell], 10.0)
        np.testing.assert_allclose(loadings[cell], expected, rtol=1e-6, atol=1e-9)


def test_tables_have_all_summaries(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--trees", "1", "2", "--frames", "300", "--cells", "100"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("| mean and std (published) |") for line in lines].count(True) == 2
    assert any(line.startswith("| sums fitted to behavior at other times (control) |") for line in lines)
    true_weights = next(line for line in lines if line.startswith("| true weights |"))
    assert float(true_weights.split("|")[2].split("±")[0]) > 0.8
