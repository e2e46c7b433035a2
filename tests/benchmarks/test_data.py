"""From NWB files to tensors, beside nlb_tools in the same run."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.specs import MC_MAZE
from measure import cost

from blend_pl.data.cache import cached
from blend_pl.data.reader import read_session
from blend_pl.data.simulation import PRESETS, Simulation
from blend_pl.data.simulation.files import TRAIN_FILE, write_session
from blend_pl.data.spec import Files

pytestmark = pytest.mark.benchmark

SPEC = replace(MC_MAZE, files=Files(TRAIN_FILE))
FITS_NLB_TOOLS = Simulation(n_train=180, n_val=60, n_test=2, n_units=60, n_heldout=15, mean_rate_hz=4.4)
"""About a tenth of MC_Maze's trials with a third of its units: nlb_tools needs memory for units x milliseconds."""


def reference(path: Path) -> None:
    """All tensors of the val phase at 5 ms, PSTHs included, as nlb_tools makes them."""
    from nlb_tools import make_tensors, nwb_interface

    logging.disable(logging.WARNING)
    nwb_interface._poolmap = lambda f, x, nprocs=1, chunksize=None: [f(args) for args in x]
    dataset = nwb_interface.NWBDataset(str(path))
    dataset.data = dataset.data.sort_index()
    dataset.resample(5)
    options = {"save_file": False, "return_dict": True}
    make_tensors.make_train_input_tensors(
        dataset, "mc_maze", "train", include_behavior=True, include_forward_pred=True, **options
    )
    make_tensors.make_eval_input_tensors(dataset, "mc_maze", "val", **options)
    make_tensors.make_eval_target_tensors(dataset, "mc_maze", "train", "val", include_psth=True, **options)


def test_reading_beside_nlb_tools(tmp_path: Path) -> None:
    pytest.importorskip("nlb_tools")
    write_session(FITS_NLB_TOOLS, tmp_path / "session")
    path = tmp_path / "session" / TRAIN_FILE
    ours, theirs = cost(lambda: read_session(SPEC, path, None, 5)), cost(lambda: reference(path))
    print(f"\n240 trials x 60 units: ours {ours}; nlb_tools {theirs}")
    print(
        f"ratio: {theirs.seconds / ours.seconds:.0f} x the time, {theirs.megabytes / ours.megabytes:.0f} x the memory"
    )


def test_reading_at_full_size(tmp_path: Path) -> None:
    write_session(PRESETS["mc_maze"], tmp_path / "session")
    path = tmp_path / "session" / TRAIN_FILE
    ours = cost(lambda: read_session(SPEC, path, None, 5))

    def through_cache() -> None:
        cached(tmp_path / "cache", [path], {"spec": SPEC}, lambda: read_session(SPEC, path, None, 5))

    through_cache()
    print(f"\n2295 trials x 182 units: {ours}; from the cache {cost(through_cache)}")
