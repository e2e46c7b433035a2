from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from blend_pl.data.nlb.simulation.files import GROUND_TRUTH_FILE, write_session
from blend_pl.data.nlb.simulation.ground_truth import read_rates
from blend_pl.data.nlb.simulation.new_trials import draw_new_rates
from blend_pl.data.nlb.simulation.parameters import NLBSimulation

SIMULATION = NLBSimulation(n_train=150, n_val=50, n_test=4, n_none=2, n_units=12, n_heldout=4, seed=3)


@pytest.fixture(scope="module")
def recorded_rates(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    folder: Path = tmp_path_factory.mktemp("simulated") / "session"
    write_session(SIMULATION, folder)
    trials = [trial for trial in range(202) if _has_window(folder / GROUND_TRUTH_FILE, trial)]
    return read_rates(folder / GROUND_TRUTH_FILE, np.array(trials), 20)


def _has_window(path: Path, trial: int) -> bool:
    with h5py.File(path) as file:
        return bool(file["has_window"][trial])


def test_new_trials_have_the_units_of_the_session(recorded_rates: torch.Tensor) -> None:
    new_rates = draw_new_rates(SIMULATION, 800, 20)
    assert new_rates.shape == (800, *recorded_rates.shape[1:])
    # The mean over trials of each unit and bin differs by the standard error of the recorded trials only.
    error = recorded_rates.std(0) / len(recorded_rates) ** 0.5
    z_scores = (new_rates.mean(0) - recorded_rates.mean(0)) / error
    assert z_scores.square().mean() < 2
    other_units = draw_new_rates(replace(SIMULATION, seed=4), 800, 20)
    assert ((other_units.mean(0) - recorded_rates.mean(0)) / error).square().mean() > 10


def test_new_trials_depend_on_their_seed_only() -> None:
    first, again, other = (draw_new_rates(SIMULATION, 30, 50, seed) for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, other)


def test_new_trials_of_chunks_differ() -> None:
    rates = draw_new_rates(SIMULATION, 510, 100)
    assert not torch.allclose(rates[:10], rates[500:])
