"""From NWB files to tensors, beside nlb_tools in the same run."""

import logging
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from helpers.specs import MC_MAZE
from measure import Cost, cost

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
"""Trials with all of MC_Maze's units: nlb_tools needs memory for units x milliseconds, here 7 GB at most."""


def session(folder: Path, trials: int) -> Path:
    """The train file of a session with that many trials, a quarter of them for validation as in MC_Maze."""
    smaller = replace(FULL, n_train=trials - trials // 4, n_val=trials // 4, n_test=2)
    # In a process of its own, whose memory ours would find again and not have to ask for.
    cost(lambda: write_session(FULL if trials == TRIALS else smaller, folder / str(trials)))
    return folder / str(trials) / TRAIN_FILE


def reference(path: Path) -> None:
    """All tensors of the val phase at 5 ms, PSTHs included, as nlb_tools makes them."""
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
    """What the faster of two calls cost, which other work on the machine disturbed less."""
    return min((cost(function) for _ in range(2)), key=lambda measured: measured.seconds)


def extrapolated(costs: dict[int, Cost], trials: int) -> Cost:
    """What more trials would cost if each took as much as each of those between the two sizes measured."""
    few, many = sorted(costs)
    share = (trials - few) / (many - few)
    ends = zip(astuple(costs[few]), astuple(costs[many]), strict=True)
    return Cost(*(low + share * (high - low) for low, high in ends))


def test_reading_beside_nlb_tools(tmp_path: Path) -> None:
    pytest.importorskip("nlb_tools.make_tensors")
    theirs = {}
    print()
    for trials in FITS_NLB_TOOLS:
        path = session(tmp_path, trials)
        ours = fastest(lambda path=path: read_session(SPEC, path, None, 5))
        theirs[trials] = fastest(lambda path=path: reference(path))
        print(f"measured, {trials} trials x {FULL.n_units} units: {beside(ours, theirs[trials])}")
    path = session(tmp_path, TRIALS)
    full = fastest(lambda: read_session(SPEC, path, None, 5))
    print(f"full size, {TRIALS} trials x {FULL.n_units} units: {beside(full, extrapolated(theirs, TRIALS))}")
    print(
        f"  (ours measured; nlb_tools extrapolated from {FITS_NLB_TOOLS[0]} and {FITS_NLB_TOOLS[1]} trials with all "
        "units, time and memory taken as linear in the number of trials)"
    )

    def through_cache() -> None:
        cached_sessions(tmp_path / "cache", [path], {"spec": SPEC}, lambda: read_session(SPEC, path, None, 5))

    through_cache()
    again = fastest(through_cache)
    print(f"bounds at full size: {full} of 6 s, 1000 MB; again from the cache: {again.seconds:.2f} s of 0.5 s")


def beside(ours: Cost, theirs: Cost) -> str:
    """Both costs and their ratios."""
    return (
        f"ours {ours}; nlb_tools {theirs}; {theirs.seconds / ours.seconds:.0f} x the time "
        f"({theirs.processor / ours.processor:.0f} x the processor's), "
        f"{theirs.megabytes / ours.megabytes:.0f} x the memory"
    )
