"""Reading of NWB files to tensors, compared with nlb_tools."""

import logging
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from helpers.specs import MC_MAZE
from measure import Cost, measure_cost

from blend_pl.data.nlb.reading import read_session
from blend_pl.data.nlb.session import cached_sessions
from blend_pl.data.nlb.simulation import PRESETS
from blend_pl.data.nlb.simulation.files import TRAIN_FILE, write_session
from blend_pl.data.nlb.spec import SessionFiles

pytestmark = pytest.mark.benchmark

SPEC = replace(MC_MAZE, files=SessionFiles(TRAIN_FILE))
FULL = PRESETS["mc_maze"]
TRIALS = FULL.n_train + FULL.n_val
FITS_NLB_TOOLS = (120, 480)
"""Trials with all of MC_Maze's units; nlb_tools holds units x milliseconds in memory, at most 7 GB here."""


def write_train_file(folder: Path, trials: int) -> Path:
    """Writes a session with a quarter of the trials for validation, as in MC_Maze; returns its train file."""
    smaller = replace(FULL, n_train=trials - trials // 4, n_val=trials // 4, n_test=2)
    # In a child process, so that its freed memory is not reused by the measured call.
    measure_cost(lambda: write_session(FULL if trials == TRIALS else smaller, folder / str(trials)))
    return folder / str(trials) / TRAIN_FILE


def reference(path: Path) -> None:
    """Makes all tensors of phase val at 5 ms, including PSTHs, by nlb_tools."""
    from nlb_tools import make_tensors, nwb_interface

    logging.disable(logging.WARNING)
    dataset = nwb_interface.NWBDataset(str(path))
    dataset.data = dataset.data.sort_index()
    dataset.resample(5)
    options = {"save_file": False, "return_dict": True}
    make_tensors.make_train_input_tensors(
        dataset, "mc_maze", "train", include_behavior=True, include_forward_pred=True, **options
    )
    make_tensors.make_eval_input_tensors(dataset, "mc_maze", "val", **options)
    make_tensors.make_eval_target_tensors(dataset, "mc_maze", "train", "val", include_psth=True, **options)


def fastest(function: Callable[[], object]) -> Cost:
    """Returns the cost of the faster of two calls, which other work on the machine disturbed less."""
    return min((measure_cost(function) for _ in range(2)), key=lambda measured: measured.seconds)


def extrapolate(costs: dict[int, Cost], trials: int) -> Cost:
    """Extrapolates the cost linearly in the number of trials, from two measured sizes."""
    few, many = sorted(costs)
    share = (trials - few) / (many - few)
    ends = zip(astuple(costs[few]), astuple(costs[many]), strict=True)
    return Cost(*(low + share * (high - low) for low, high in ends))


def test_reading_compared_with_nlb_tools(tmp_path: Path) -> None:
    pytest.importorskip("nlb_tools.make_tensors")
    theirs = {}
    print()
    for trials in FITS_NLB_TOOLS:
        path = write_train_file(tmp_path, trials)
        ours = fastest(lambda path=path: read_session(SPEC, path, None, 5))
        theirs[trials] = fastest(lambda path=path: reference(path))
        print(f"measured, {trials} trials x {FULL.n_units} units: {compare(ours, theirs[trials])}")
    path = write_train_file(tmp_path, TRIALS)
    full = fastest(lambda: read_session(SPEC, path, None, 5))
    print(f"full size, {TRIALS} trials x {FULL.n_units} units: {compare(full, extrapolate(theirs, TRIALS))}")
    print(
        f"  (ours measured; nlb_tools extrapolated from {FITS_NLB_TOOLS[0]} and {FITS_NLB_TOOLS[1]} trials with all "
        "units, linearly in the number of trials)"
    )

    def read_cached() -> None:
        cached_sessions(tmp_path / "cache", [path], {"spec": SPEC}, lambda: read_session(SPEC, path, None, 5))

    read_cached()
    from_cache = fastest(read_cached)
    print(f"bounds at full size: {full} of 6 s, 1000 MB; from the cache: {from_cache.seconds:.2f} s of 0.5 s")


def compare(ours: Cost, theirs: Cost) -> str:
    """Formats both costs and their ratios."""
    return (
        f"ours {ours}; nlb_tools {theirs}; {theirs.seconds / ours.seconds:.0f} x the time "
        f"({theirs.processor / ours.processor:.0f} x the CPU time), "
        f"{theirs.megabytes / ours.megabytes:.0f} x the memory"
    )
