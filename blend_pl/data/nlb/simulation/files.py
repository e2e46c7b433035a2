"""Simulated sessions on disk: NWB files in the layout of MC_Maze, with the ground truth beside them."""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from blend_pl.data.io.generated import write_once
from blend_pl.data.nlb.simulation.ground_truth import (
    SUPPORT_MS,
    VELOCITY_MS,
    GroundTruth,
    fingerprint,
    is_truth_of,
    write_ground_truth,
)
from blend_pl.data.nlb.simulation.nwb_writer import Series, UnitsTable, write_nwb
from blend_pl.data.nlb.simulation.parameters import BIN_MS, WINDOW_MS, Simulation
from blend_pl.data.nlb.simulation.population import Population, draw_latents, draw_population
from blend_pl.data.nlb.simulation.reach import Hand, Trials, draw_trials, record_hand
from blend_pl.data.nlb.simulation.spikes import Spikes, record_spikes

TRAIN_FILE = "sub-Sim/sub-Sim_desc-train_behavior+ecephys.nwb"
TEST_FILE = "sub-Sim/sub-Sim_desc-test_ecephys.nwb"
GROUND_TRUTH_FILE = "ground_truth.h5"


def write_session(simulation: Simulation, folder: Path) -> None:
    """Simulates a session and writes it into `folder`, all at once.

    Where the folder already holds this session nothing is done, and several processes may write it at the same time.

    Args:
        simulation: what to simulate.
        folder: receives `TRAIN_FILE`, `TEST_FILE` and `GROUND_TRUTH_FILE`; missing, empty or holding this session.

    Raises:
        DataError: the folder cannot be written or holds something else.
    """
    write_once(folder, "this simulated session", lambda: _holds(folder, simulation), partial(_write, simulation))


def _holds(folder: Path, simulation: Simulation) -> bool:
    files = (folder / TRAIN_FILE, folder / TEST_FILE)
    return all(file.is_file() for file in files) and is_truth_of(folder / GROUND_TRUTH_FILE, simulation)


def _write(simulation: Simulation, folder: Path) -> None:
    # A stream for each part, so that e.g. the number of units does not change the hand.
    seeds = np.random.SeedSequence(simulation.seed).spawn(6)
    for_trials, for_hand, for_latents, for_tuning, for_spikes, for_gaps = map(np.random.default_rng, seeds)
    trials = draw_trials(simulation, for_trials)
    hand = record_hand(trials, for_hand)
    seen = _seen(trials, simulation.missing_behavior, for_gaps)
    latents = draw_latents(trials, for_latents)
    population = draw_population(simulation, trials, latents, for_tuning)
    spikes = record_spikes(trials, population, latents, for_spikes)
    (folder / TRAIN_FILE).parent.mkdir()
    _write_train_file(folder / TRAIN_FILE, simulation, trials, hand, seen, population, spikes)
    _write_test_file(folder / TEST_FILE, simulation, trials, population, spikes)
    write_ground_truth(folder / GROUND_TRUTH_FILE, _truth(simulation, trials, hand, latents, population, spikes))


def _write_train_file(
    path: Path,
    simulation: Simulation,
    trials: Trials,
    hand: Hand,
    seen: np.ndarray,
    population: Population,
    spikes: Spikes,
) -> None:
    rows = ~trials.is_test
    start_ms = trials.clock_ms[rows]
    has_onset = trials.split[rows] != "none"
    columns = {
        "start_time": start_ms / 1000,
        "stop_time": (start_ms + trials.length_ms[rows]) / 1000,
        "trial_type": trials.direction[rows] + 1,
        "trial_version": trials.distance[rows],
        "target_on_time": (start_ms + trials.target_on_ms[rows]) / 1000,
        "go_cue_time": (start_ms + trials.go_cue_ms[rows]) / 1000,
        "move_onset_time": np.where(has_onset, (start_ms + trials.onset_ms[rows]) / 1000, np.nan),
        "rt": np.where(has_onset, trials.onset_ms[rows] - trials.go_cue_ms[rows], np.nan),
        "success": np.ones(len(start_ms), dtype=bool),
        "num_targets": np.ones(len(start_ms), dtype=np.int64),
        "split": trials.split[rows],
    }
    recorded = slice(0, int(trials.length_ms[rows].sum()))
    gaps = ~np.repeat(seen[rows], trials.length_ms[rows])[:, None]
    write_nwb(
        path,
        identifier=_identifier(simulation, "train"),
        description="Simulated delayed reaches: training and validation trials.",
        trials=columns,
        units=UnitsTable(population.unit_id, population.heldout, spikes.train, _intervals(columns)),
        seconds=hand.clock_ms[recorded] / 1000,
        series=[
            Series("hand_vel", np.where(gaps, np.nan, hand.velocity[recorded]), "mm/s"),
            Series("hand_pos", np.where(gaps, np.nan, hand.position[recorded]), "mm"),
            Series("cursor_pos", np.where(gaps, np.nan, hand.cursor[recorded]), "mm"),
        ],
    )


def _seen(trials: Trials, missing: float, rng: np.random.Generator) -> np.ndarray:
    """(trials,) bool, whether the hand was recorded."""
    train = np.flatnonzero(trials.split == "train")
    seen = np.ones(len(trials.split), dtype=bool)
    seen[rng.choice(train, round(missing * len(train)), replace=False)] = False
    return seen


def _write_test_file(
    path: Path, simulation: Simulation, trials: Trials, population: Population, spikes: Spikes
) -> None:
    start_ms = (trials.clock_ms + trials.window_ms)[trials.is_test]
    columns = {
        "start_time": start_ms / 1000,
        "stop_time": (start_ms + WINDOW_MS[1] - WINDOW_MS[0]) / 1000,
        "move_onset_time": (start_ms - WINDOW_MS[0]) / 1000,
        "split": trials.split[trials.is_test],
    }
    heldin = np.flatnonzero(~population.heldout)
    write_nwb(
        path,
        identifier=_identifier(simulation, "test"),
        description="Simulated delayed reaches: what a model may see of the test trials.",
        trials=columns,
        units=UnitsTable(
            population.unit_id[heldin],
            population.heldout[heldin],
            [spikes.test[unit] for unit in heldin],
            _intervals(columns),
        ),
    )


def _intervals(columns: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([columns["start_time"], columns["stop_time"]], axis=1)


def _identifier(simulation: Simulation, file: str) -> str:
    return hashlib.sha256(f"{fingerprint(simulation)} {file}".encode()).hexdigest()[:32]


def _truth(
    simulation: Simulation, trials: Trials, hand: Hand, latents: np.ndarray, population: Population, spikes: Spikes
) -> GroundTruth:
    heldin_first = np.argsort(population.heldout, kind="stable")
    support_bin = -(-trials.window_ms // BIN_MS)
    support = (trials.grid(BIN_MS)[2] + support_bin)[:, None] + np.arange(SUPPORT_MS // BIN_MS)
    velocity = (trials.grid(1)[2] + trials.window_ms)[trials.is_test, None] + np.arange(*VELOCITY_MS)
    return GroundTruth(
        simulation=simulation,
        latents=latents[support],
        weights=population.weights[:, heldin_first],
        log_base=population.log_base[heldin_first],
        has_window=trials.split != "none",
        window_start_ms=trials.window_ms + trials.clock_ms,
        support_start_ms=support_bin * BIN_MS + trials.clock_ms,
        test_spikes=spikes.test_counts[:, :, heldin_first],
        test_velocity=hand.velocity[velocity],
    )
