"""Tests of the parameters of simulated sessions."""

import math
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from blend_pl.data.nlb.simulation.parameters import PRESETS, NLBSimulation
from blend_pl.errors import ConfigError

SMALL_TEST_FILE = Path(__file__).parents[4] / "../shared/data/sub-Jenkins_ses-small_desc-test_ecephys.nwb"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_train", 0),
        ("n_val", 0),
        ("n_test", 0),
        ("n_none", -1),
        ("n_heldout", 60),
        ("n_heldout", -1),
        ("mean_rate_hz", 0.0),
        ("mean_rate_hz", 61.0),
        ("mean_rate_hz", math.nan),
        ("max_rate_hz", 2000.0),
        ("private_share", 1.0),
        ("private_share", -0.1),
        ("gain", math.nan),
        ("rate_spread", -1.0),
        ("curvature_sd", math.inf),
        ("onset_error_s", -0.01),
        ("n_directions", 0),
        ("distances_mm", ()),
        ("distances_mm", (100.0, 0.0)),
        ("delay_s", (0.5, 0.1)),
        ("delay_s", (0.5,)),
        ("seed", -1),
    ],
)
def test_invalid_parameter_raises_with_its_name(field, value):
    with pytest.raises(ConfigError, match=field) as error:
        NLBSimulation(**{field: value})
    assert "\n" not in str(error.value)


def test_lists_become_tuples():
    assert NLBSimulation(distances_mm=[130.0, 91.0], delay_s=[0.15, 0.65]) == NLBSimulation()


def test_mc_maze_preset_has_the_size_of_mc_maze():
    full = PRESETS["mc_maze"]
    assert (full.n_train, full.n_val, full.n_test) == (1721, 574, 574)
    assert (full.n_heldin, full.n_heldout) == (137, 45)


def test_mc_maze_small_preset_matches_the_official_test_file():
    if not SMALL_TEST_FILE.exists():
        pytest.skip("the official MC_Maze_Small test file is not in ../shared/data")
    with h5py.File(SMALL_TEST_FILE) as file:
        n_units, n_trials = len(file["units/id"]), len(file["intervals/trials/id"])
        mean_rate = len(file["units/spike_times"]) / n_units / (0.7 * n_trials)
    preset = PRESETS["mc_maze_small"]
    assert (preset.n_heldin, preset.n_test) == (n_units, n_trials)
    assert preset.mean_rate_hz == pytest.approx(mean_rate, abs=0.05)


def test_number_of_conditions():
    assert replace(NLBSimulation(), n_directions=5, distances_mm=(1.0, 2.0, 3.0)).n_conditions == 15
