"""Simulated delayed reaches: timing of the trials and kinematics of the hand."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.signal import lfilter

from blend_pl.data.nlb.simulation.parameters import BIN_MS, WINDOW_MS, NLBSimulation

BEFORE_TARGET_MS = 450
"""Time recorded before the target appears, enough for the window and a filter's margin after any delay."""

AFTER_ONSET_MS = 900
"""Minimum time recorded after movement onset: window, forward period, decoding lag and margin."""

TRIAL_GRID_MS = 100
"""Grid of the starts and ends of trials, as in MC_Maze, so that bins of 5, 10, 20 or 25 ms start with the trial."""

TEST_PERIOD_MS = 800
"""Distance between the windows of the test file, as in MC_Maze."""

REACTION_TIME_S = (0.25, 0.06, 0.10, 0.45)
"""Reaction time: mean, standard deviation, minimum and maximum, s."""

MAX_ONSET_ERROR_SD = 2.5
MIN_ONSET_MS = 50
"""Maximum error of the recorded onset, in standard deviations, and minimum time from the go cue to the onset."""

DURATION_S = 0.40
"""Duration of a reach of the first distance, s."""

DURATION_EXPONENT = 0.3
"""Exponent of the duration's dependence on distance: 0 is constant duration, 1 is constant speed."""

REST_SPEED_MM_S = 3.0
REST_TIME_CONSTANT_MS = 50
"""Smooth velocity noise of the resting hand: standard deviation and time constant. It is 2 to 4 mm/s in MC_Maze."""

START_POSITION_MM = (0.0, -30.0)
START_POSITION_SD_MM = 3.0
"""Mean and standard deviation of the hand's start position."""

CURSOR_OFFSET_MM = (0.0, 30.0)
"""Position of the cursor minus that of the hand."""


@dataclass(frozen=True)
class Trials:
    """All trials, those of the train file first; all arrays are (trials,), times are in ms from the start of the trial.

    Attributes:
        split: "train", "val", "none" or "test".
        direction: index of the reach direction.
        distance: index of the reach distance.
        target_on_ms: target onset.
        go_cue_ms: go cue.
        true_onset_ms: start of the movement.
        onset_ms: movement onset as recorded, around which windows are cut.
        length_ms: length of the trial, a multiple of `TRIAL_GRID_MS`.
        file_offset_ms: start of the trial in the time of its file.
        angle: direction of the end point, radians.
        reach_mm: length of the path to the end point.
        duration_s: duration of the movement.
        curvature: angle by which the heading turns during the movement, radians.
    """

    split: np.ndarray
    direction: np.ndarray
    distance: np.ndarray
    target_on_ms: np.ndarray
    go_cue_ms: np.ndarray
    true_onset_ms: np.ndarray
    onset_ms: np.ndarray
    length_ms: np.ndarray
    file_offset_ms: np.ndarray
    angle: np.ndarray
    reach_mm: np.ndarray
    duration_s: np.ndarray
    curvature: np.ndarray

    def __len__(self) -> int:
        return len(self.split)

    @cached_property
    def is_test(self) -> np.ndarray:
        """(trials,) bool, trials of the test file."""
        is_test: np.ndarray = self.split == "test"
        return is_test

    @cached_property
    def window_start_ms(self) -> np.ndarray:
        """(trials,) start of the observed window, ms."""
        return self.onset_ms + WINDOW_MS[0]

    def time_grid(self, step_ms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Divides all trials into steps and concatenates them.

        Args:
            step_ms: length of a step, a divisor of `TRIAL_GRID_MS`.

        Returns:
            (steps,) trial of each step; (steps,) its start in the trial's time, ms; (trials,) first step of each trial.
        """
        n_steps = self.length_ms // step_ms
        first_step = np.cumsum(n_steps) - n_steps
        trial = np.repeat(np.arange(len(self)), n_steps)
        return trial, (np.arange(n_steps.sum()) - first_step[trial]) * step_ms, first_step


@dataclass(frozen=True)
class HandKinematics:
    """Kinematics of the hand at 1 kHz, with concatenated trials.

    Attributes:
        velocity: (samples, 2) mm/s.
        position: (samples, 2) mm.
        cursor: (samples, 2) mm.
        file_time_ms: (samples,) time in the file, ms.
    """

    velocity: np.ndarray
    position: np.ndarray
    cursor: np.ndarray
    file_time_ms: np.ndarray


def draw_trials(simulation: NLBSimulation, rng: np.random.Generator) -> Trials:
    """Draws conditions, timing and kinematics of every trial and places the trials in their files.

    Conditions are balanced within each split. Trials of the train file follow one another with gaps of 100 to 300 ms;
    test trials have their observed windows on a grid of 800 ms: the file contains 0 to 0.7 s, 0.8 to 1.5 s and so on.
    """
    n_train_file_trials = {"train": simulation.n_train, "val": simulation.n_val, "none": simulation.n_none}
    split = np.concatenate(
        [
            rng.permutation(np.repeat(list(n_train_file_trials), list(n_train_file_trials.values()))),
            ["test"] * simulation.n_test,
        ]
    )
    condition = np.empty(len(split), dtype=np.int64)
    for name in (*n_train_file_trials, "test"):
        split_rows = np.flatnonzero(split == name)
        condition[split_rows] = rng.permutation(np.arange(len(split_rows)) % simulation.n_conditions)
    direction, distance = condition % simulation.n_directions, condition // simulation.n_directions

    n_trials, is_test = len(split), split == "test"
    distance_mm = np.asarray(simulation.distances_mm)[distance]
    target_on = np.full(n_trials, BEFORE_TARGET_MS)
    go_cue = target_on + _round_to_ms(rng.uniform(*simulation.delay_s, n_trials))
    reaction_mean, reaction_sd, shortest, longest = REACTION_TIME_S
    true_onset = go_cue + _round_to_ms(np.clip(rng.normal(reaction_mean, reaction_sd, n_trials), shortest, longest))
    onset_error = simulation.onset_error_s * np.clip(
        rng.standard_normal(n_trials), -MAX_ONSET_ERROR_SD, MAX_ONSET_ERROR_SD
    )
    onset = np.maximum(true_onset + _round_to_ms(onset_error), go_cue + MIN_ONSET_MS)
    # The windows of the test file are on its grid, so the bins of these trials must start with the window.
    onset = np.where(is_test, -(-onset // BIN_MS) * BIN_MS, onset)
    length = -(-(onset + AFTER_ONSET_MS) // TRIAL_GRID_MS) * TRIAL_GRID_MS
    period = length + rng.integers(1, 4, n_trials) * TRIAL_GRID_MS
    test_index = np.cumsum(is_test) - 1
    return Trials(
        split=split,
        direction=direction,
        distance=distance,
        target_on_ms=target_on,
        go_cue_ms=go_cue,
        true_onset_ms=true_onset,
        onset_ms=onset,
        length_ms=length,
        file_offset_ms=np.where(
            is_test, TEST_PERIOD_MS * test_index - (onset + WINDOW_MS[0]), np.cumsum(period) - period
        ),
        angle=2 * np.pi * direction / simulation.n_directions + simulation.angle_sd * rng.standard_normal(n_trials),
        reach_mm=distance_mm * np.exp(simulation.vigor_sd * rng.standard_normal(n_trials)),
        duration_s=DURATION_S
        * (distance_mm / simulation.distances_mm[0]) ** DURATION_EXPONENT
        * np.exp(simulation.duration_sd * rng.standard_normal(n_trials)),
        curvature=simulation.curvature_sd * rng.standard_normal(n_trials),
    )


def reach_velocity(trials: Trials, trial: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
    """Returns the noiseless velocity of reaches, with minimum-jerk speed (Flash and Hogan, 1985) and a turning heading.

    Args:
        trials: kinematics.
        trial: (times,) index of the trial of each time.
        time_ms: (times,) time in the trial, not necessarily on a grid.

    Returns:
        (times, 2) velocity, mm/s; 0 outside the movement.
    """
    duration = trials.duration_s[trial]
    progress = np.clip((time_ms - trials.true_onset_ms[trial]) / 1000 / duration, 0, 1)
    speed = 30 * (progress * (1 - progress)) ** 2 * trials.reach_mm[trial] / duration
    heading = trials.angle[trial] + trials.curvature[trial] * (progress - 0.5)
    return np.stack([speed * np.cos(heading), speed * np.sin(heading)], axis=1)


def draw_hand(trials: Trials, rng: np.random.Generator) -> HandKinematics:
    """Draws the velocity of the hand, with resting noise, and integrates it to positions."""
    trial, time_ms, first_sample = trials.time_grid(1)
    velocity = reach_velocity(trials, trial, time_ms) + _smooth_noise(rng, len(trial))
    displacement = np.cumsum(velocity, axis=0) / 1000
    start_position = np.asarray(START_POSITION_MM) + START_POSITION_SD_MM * rng.standard_normal((len(trials), 2))
    position = displacement + (start_position - displacement[first_sample])[trial]
    return HandKinematics(
        velocity, position, position + np.asarray(CURSOR_OFFSET_MM), time_ms + trials.file_offset_ms[trial]
    )


def _round_to_ms(seconds: np.ndarray) -> np.ndarray:
    return np.round(1000 * seconds).astype(np.int64)


def _smooth_noise(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Draws (n_samples, 2) noise, mm/s: white noise through two equal first-order low-pass filters."""
    decay = np.exp(-1 / REST_TIME_CONSTANT_MS)
    response_power = (1 - decay**2) ** 3 / (1 + decay**2)
    noise = lfilter([1.0], [1.0, -2 * decay, decay**2], rng.standard_normal((n_samples, 2)), axis=0)
    speed_noise: np.ndarray = REST_SPEED_MM_S * np.sqrt(response_power) * noise
    return speed_noise
