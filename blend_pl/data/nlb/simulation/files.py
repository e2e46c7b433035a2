"""Files of simulated sessions: NWB files in the layout of MC_Maze, and the ground truth."""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from blend_pl.data.io.generated import write_once
from blend_pl.data.nlb.simulation.ground_truth import (
    SUPPORT_MS,
    VELOCITY_MS,
    GroundTruth,
    is_ground_truth_of,
    simulation_fingerprint,
    write_ground_truth,
)
from blend_pl.data.nlb.simulation.nwb_writer import BehaviorSeries, UnitsTable, write_nlb_nwb
from blend_pl.data.nlb.simulation.parameters import BIN_MS, WINDOW_MS, NLBSimulation, random_streams
from blend_pl.data.nlb.simulation.population import SimulatedUnits, draw_population
from blend_pl.data.nlb.simulation.reach import HandKinematics, Trials, draw_hand
from blend_pl.data.nlb.simulation.spikes import SimulatedSpikes, simulate_spikes

TRAIN_FILE = "sub-Sim/sub-Sim_desc-train_behavior+ecephys.nwb"
TEST_FILE = "sub-Sim/sub-Sim_desc-test_ecephys.nwb"
GROUND_TRUTH_FILE = "ground_truth.h5"


def write_session(simulation: NLBSimulation, folder: Path) -> None:
    """Simulates a session and writes `TRAIN_FILE`, `TEST_FILE` and `GROUND_TRUTH_FILE` into a folder; see `write_once`.

    Args:
        simulation: the parameters.
        folder: a folder that is missing, empty or contains this session.

    Raises:
        DataError: the folder cannot be written or contains something else.
    """
    write_once(
        folder, "this simulated session", lambda: _holds_session(folder, simulation), partial(_write_files, simulation)
    )


def _holds_session(folder: Path, simulation: NLBSimulation) -> bool:
    files = (folder / TRAIN_FILE, folder / TEST_FILE)
    return all(file.is_file() for file in files) and is_ground_truth_of(folder / GROUND_TRUTH_FILE, simulation)


def _write_files(simulation: NLBSimulation, folder: Path) -> None:
    _, hand_rng, _, _, spikes_rng, missing_rng = random_streams(simulation.seed)
    population = draw_population(simulation)
    trials, latents, units = population.trials, population.latents, population.units
    hand = draw_hand(trials, hand_rng)
    has_behavior = _draw_has_behavior(trials, simulation.missing_behavior, missing_rng)
    spikes = simulate_spikes(trials, units, latents, spikes_rng)
    (folder / TRAIN_FILE).parent.mkdir()
    _write_train_file(folder / TRAIN_FILE, simulation, trials, hand, has_behavior, units, spikes)
    _write_test_file(folder / TEST_FILE, simulation, trials, units, spikes)
    write_ground_truth(
        folder / GROUND_TRUTH_FILE, _build_ground_truth(simulation, trials, hand, latents, units, spikes)
    )


def _write_train_file(
    path: Path,
    simulation: NLBSimulation,
    trials: Trials,
    hand: HandKinematics,
    has_behavior: np.ndarray,
    units: SimulatedUnits,
    spikes: SimulatedSpikes,
) -> None:
    is_train = ~trials.is_test
    start_ms = trials.file_offset_ms[is_train]
    has_onset = trials.split[is_train] != "none"
    trial_columns = {
        "start_time": start_ms / 1000,
        "stop_time": (start_ms + trials.length_ms[is_train]) / 1000,
        "trial_type": trials.direction[is_train] + 1,
        "trial_version": trials.distance[is_train],
        "target_on_time": (start_ms + trials.target_on_ms[is_train]) / 1000,
        "go_cue_time": (start_ms + trials.go_cue_ms[is_train]) / 1000,
        "move_onset_time": np.where(has_onset, (start_ms + trials.onset_ms[is_train]) / 1000, np.nan),
        "rt": np.where(has_onset, trials.onset_ms[is_train] - trials.go_cue_ms[is_train], np.nan),
        "success": np.ones(len(start_ms), dtype=bool),
        "num_targets": np.ones(len(start_ms), dtype=np.int64),
        "split": trials.split[is_train],
    }
    train_samples = slice(0, int(trials.length_ms[is_train].sum()))
    is_missing = ~np.repeat(has_behavior[is_train], trials.length_ms[is_train])[:, None]
    write_nlb_nwb(
        path,
        identifier=_identifier(simulation, "train"),
        description="Simulated delayed reaches: training and validation trials.",
        trials=trial_columns,
        units=UnitsTable(units.unit_id, units.heldout, spikes.train_times, _obs_intervals(trial_columns)),
        timestamps=hand.file_time_ms[train_samples] / 1000,
        series=[
            BehaviorSeries("hand_vel", np.where(is_missing, np.nan, hand.velocity[train_samples]), "mm/s"),
            BehaviorSeries("hand_pos", np.where(is_missing, np.nan, hand.position[train_samples]), "mm"),
            BehaviorSeries("cursor_pos", np.where(is_missing, np.nan, hand.cursor[train_samples]), "mm"),
        ],
    )


def _draw_has_behavior(trials: Trials, missing_fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Draws (trials,) bool, whether the hand was recorded."""
    train_trials = np.flatnonzero(trials.split == "train")
    has_behavior = np.ones(len(trials.split), dtype=bool)
    has_behavior[rng.choice(train_trials, round(missing_fraction * len(train_trials)), replace=False)] = False
    return has_behavior


def _write_test_file(
    path: Path, simulation: NLBSimulation, trials: Trials, units: SimulatedUnits, spikes: SimulatedSpikes
) -> None:
    start_ms = (trials.file_offset_ms + trials.window_start_ms)[trials.is_test]
    trial_columns = {
        "start_time": start_ms / 1000,
        "stop_time": (start_ms + WINDOW_MS[1] - WINDOW_MS[0]) / 1000,
        "move_onset_time": (start_ms - WINDOW_MS[0]) / 1000,
        "split": trials.split[trials.is_test],
    }
    heldin_units = np.flatnonzero(~units.heldout)
    write_nlb_nwb(
        path,
        identifier=_identifier(simulation, "test"),
        description="Simulated delayed reaches: held-in spikes in the observed windows of the test trials.",
        trials=trial_columns,
        units=UnitsTable(
            units.unit_id[heldin_units],
            units.heldout[heldin_units],
            [spikes.test_times[unit] for unit in heldin_units],
            _obs_intervals(trial_columns),
        ),
    )


def _obs_intervals(trial_columns: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([trial_columns["start_time"], trial_columns["stop_time"]], axis=1)


def _identifier(simulation: NLBSimulation, split: str) -> str:
    return hashlib.sha256(f"{simulation_fingerprint(simulation)} {split}".encode()).hexdigest()[:32]


def _build_ground_truth(
    simulation: NLBSimulation,
    trials: Trials,
    hand: HandKinematics,
    latents: np.ndarray,
    units: SimulatedUnits,
    spikes: SimulatedSpikes,
) -> GroundTruth:
    heldin_first = np.argsort(units.heldout, kind="stable")
    first_support_bin = -(-trials.window_start_ms // BIN_MS)
    support_bins = (trials.time_grid(BIN_MS)[2] + first_support_bin)[:, None] + np.arange(SUPPORT_MS // BIN_MS)
    velocity_samples = (trials.time_grid(1)[2] + trials.window_start_ms)[trials.is_test, None] + np.arange(*VELOCITY_MS)
    return GroundTruth(
        simulation=simulation,
        latents=latents[support_bins],
        weights=units.weights[:, heldin_first],
        log_base=units.log_base[heldin_first],
        tuning=units.tuning[heldin_first],
        has_window=trials.split != "none",
        window_start_ms=trials.window_start_ms + trials.file_offset_ms,
        support_start_ms=first_support_bin * BIN_MS + trials.file_offset_ms,
        test_spikes=spikes.test_counts[:, :, heldin_first],
        test_velocity=hand.velocity[velocity_samples],
    )
