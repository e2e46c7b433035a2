"""Tests of simulated trials and hand kinematics."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blend_pl.data.nlb.simulation.ground_truth import SUPPORT_MS, VELOCITY_MS
from blend_pl.data.nlb.simulation.parameters import FORWARD_MS, LEAD_MS, WINDOW_MS, NLBSimulation
from blend_pl.data.nlb.simulation.reach import TRIAL_GRID_MS, draw_hand, draw_trials, reach_velocity

SIMULATION = NLBSimulation(n_train=50, n_val=20, n_test=30, n_none=4)


@pytest.fixture(scope="module")
def trials():
    return draw_trials(SIMULATION, np.random.default_rng(1))


@pytest.fixture(scope="module")
def hand(trials):
    return draw_hand(trials, np.random.default_rng(2))


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 30)] * 3, st.integers(0, 3)),
    shortest=st.floats(0, 1),
    longer=st.floats(0, 2),
    error=st.floats(0, 0.5),
    seed=st.integers(0, 2**32),
)
def test_trials_contain_window_support_and_velocity(sizes, shortest, longer, error, seed):
    delay = (shortest, shortest + longer)
    simulation = NLBSimulation(*sizes, delay_s=delay, onset_error_s=error, seed=seed)
    trials = draw_trials(simulation, np.random.default_rng(seed))
    start, stop = trials.window_start_ms, trials.onset_ms + WINDOW_MS[1] + FORWARD_MS
    assert (start >= 0).all()
    assert (stop + LEAD_MS <= trials.length_ms).all()
    assert (start + VELOCITY_MS[0] >= 0).all()
    assert (start + VELOCITY_MS[1] <= trials.length_ms).all()
    assert (-(-start // 5) * 5 + SUPPORT_MS <= trials.length_ms).all()
    assert (trials.target_on_ms <= trials.go_cue_ms).all()
    assert (trials.go_cue_ms < trials.onset_ms).all()


def test_train_file_has_gaps_and_starts_on_the_grid(trials):
    start, length = trials.file_offset_ms[~trials.is_test], trials.length_ms[~trials.is_test]
    assert start[0] == 0
    assert (start % TRIAL_GRID_MS == 0).all()
    assert (length % TRIAL_GRID_MS == 0).all()
    gaps = start[1:] - (start + length)[:-1]
    assert gaps.min() >= 100
    assert len(np.unique(gaps)) > 1


def test_test_windows_are_on_the_grid_of_the_official_file(trials):
    window = (trials.file_offset_ms + trials.window_start_ms)[trials.is_test]
    np.testing.assert_array_equal(window, 800 * np.arange(SIMULATION.n_test))
    assert (trials.window_start_ms[trials.is_test] % 5 == 0).all()


def test_onsets_of_the_train_file_are_not_on_the_bin_grid(trials):
    assert len(np.unique(trials.onset_ms[~trials.is_test] % 5)) == 5


def test_splits_and_balanced_conditions(trials):
    for name, n in (("train", 50), ("val", 20), ("none", 4), ("test", 30)):
        in_split = trials.split == name
        assert in_split.sum() == n
        condition = trials.direction[in_split] + SIMULATION.n_directions * trials.distance[in_split]
        counts = np.bincount(condition, minlength=SIMULATION.n_conditions)
        assert counts.max() - counts.min() <= 1
    assert list(trials.split[~trials.is_test]) != sorted(trials.split[~trials.is_test])


def test_speed_is_bell_shaped_and_covers_the_distance(trials):
    for trial in (0, 7, 60):
        duration = 1000 * trials.duration_s[trial]
        time = np.arange(-200.0, 1200.0)
        velocity = reach_velocity(trials, np.full(len(time), trial), time + trials.true_onset_ms[trial])
        speed = np.hypot(*velocity.T)
        assert (speed[(time <= 0) | (time >= duration)] == 0).all()
        assert time[speed.argmax()] == pytest.approx(duration / 2, abs=1)
        moving = speed[(time > 0) & (time < duration)]
        assert np.count_nonzero(np.diff(np.sign(np.diff(moving)))) == 1
        assert speed.sum() / 1000 == pytest.approx(trials.reach_mm[trial], rel=1e-3)
        assert speed.max() == pytest.approx(1.875 * trials.reach_mm[trial] / trials.duration_s[trial], rel=1e-3)


def test_kinematics_have_the_given_scatter():
    simulation = replace(SIMULATION, n_train=4000, distances_mm=(100.0,))
    trials = draw_trials(simulation, np.random.default_rng(0))
    scatter = np.angle(np.exp(1j * (trials.angle - 2 * np.pi * trials.direction / 8)))
    assert scatter.std() == pytest.approx(simulation.angle_sd, rel=0.05)
    assert np.log(trials.reach_mm / 100).std() == pytest.approx(simulation.vigor_sd, rel=0.05)
    assert np.log(trials.duration_s).std() == pytest.approx(simulation.duration_sd, rel=0.05)
    assert trials.curvature.std() == pytest.approx(simulation.curvature_sd, rel=0.05)
    reaction = trials.true_onset_ms - trials.go_cue_ms
    assert reaction.mean() == pytest.approx(250, abs=5)
    assert reaction.min() >= 100
    assert reaction.max() <= 450
    error = (trials.onset_ms - trials.true_onset_ms) / 1000
    assert error.std() == pytest.approx(simulation.onset_error_s, rel=0.1)


def test_hand_rests_before_the_reach_and_ends_at_the_target(trials, hand):
    trial, time_ms, first = trials.time_grid(1)
    speed = np.hypot(*hand.velocity.T)
    resting = time_ms < trials.true_onset_ms[trial]
    assert 2 < hand.velocity[resting].std() < 4
    assert speed[resting].max() < 20
    steps = np.abs(np.diff(hand.velocity, axis=0)).max(axis=1)
    assert steps[resting[1:] & (time_ms[1:] > 0)].max() < 1
    peak = np.maximum.reduceat(speed, first)
    assert (peak > 100).all()
    reached = hand.position[first + trials.true_onset_ms + 750] - hand.position[first + trials.true_onset_ms]
    angle_error = np.angle(np.exp(1j * (np.arctan2(reached[:, 1], reached[:, 0]) - trials.angle)))
    assert np.abs(angle_error).max() < 0.2


def test_velocity_is_the_derivative_of_position_within_trials(trials, hand):
    trial, _, _ = trials.time_grid(1)
    within_trial = trial[1:] == trial[:-1]
    np.testing.assert_allclose(
        1000 * np.diff(hand.position, axis=0)[within_trial], hand.velocity[1:][within_trial], atol=1e-6
    )
    assert np.ptp(hand.cursor - hand.position, axis=0).max() < 1e-9


def test_time_grid_covers_trials(trials):
    trial, time_ms, first = trials.time_grid(5)
    np.testing.assert_array_equal(np.bincount(trial) * 5, trials.length_ms)
    assert (time_ms[first] == 0).all()
    assert (np.diff(time_ms)[np.diff(trial) == 0] == 5).all()
