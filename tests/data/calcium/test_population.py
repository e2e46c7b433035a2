from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.calcium import recording_of

from blend_pl.data.calcium.population import (
    CalciumSession,
    build_calcium_session,
    compute_population_context,
    neighbor_adjacency,
)
from blend_pl.data.calcium.recording import CalciumRecording

FRAMES, TRAINED = 60, 45


def prepared(recording: CalciumRecording, radius: float = 65.0) -> CalciumSession:
    return build_calcium_session(recording, np.arange(len(recording.cell_id)), TRAINED / FRAMES, radius)


def near(recording: CalciumRecording) -> CalciumRecording:
    """The same cells, 50 apart on a line: each has its left and its right neighbour."""
    return replace(recording, position=recording.position / 20)


@pytest.fixture
def recording() -> CalciumRecording:
    return near(recording_of(list("abcdef")))


def test_activity_is_standardised_over_training_time(recording: CalciumRecording) -> None:
    population = prepared(recording)
    trained = population.activity[:TRAINED]
    assert population.n_train_frames == TRAINED
    torch.testing.assert_close(trained.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(trained.var(0, correction=0), torch.ones(6))
    raw = torch.from_numpy(recording.activity)
    expected = (raw - raw[:TRAINED].mean(0)) / raw[:TRAINED].std(0, correction=0)
    torch.testing.assert_close(population.activity, expected)


def test_held_out_time_touches_nothing_before(recording: CalciumRecording) -> None:
    """Whatever happens after the training time, no bit of the training time changes."""
    activity, behavior = recording.activity.copy(), recording.behavior.copy()
    activity[TRAINED:] = 1000 * np.random.default_rng(1).normal(size=activity[TRAINED:].shape)
    behavior[TRAINED:] = -77.0
    behavior[TRAINED:, 2:] = [0, 0, 1]
    before, after = prepared(recording), prepared(replace(recording, activity=activity, behavior=behavior))
    for name in ("activity", "population_context", "behavior", "valid", "behavior_valid"):
        assert torch.equal(getattr(before, name)[:TRAINED], getattr(after, name)[:TRAINED]), name
    assert not torch.equal(before.activity, after.activity)
    assert not torch.equal(before.behavior, after.behavior)


def test_states_stay_categories(recording: CalciumRecording) -> None:
    population = prepared(recording)
    assert np.array_equal(population.behavior[:, 2:].numpy(), recording.behavior[:, 2:])
    torch.testing.assert_close(population.behavior[:TRAINED, :2].mean(0), torch.zeros(2), atol=1e-5, rtol=0)


def test_missing_behaviour_is_marked(recording: CalciumRecording) -> None:
    behavior = recording.behavior.copy()
    behavior[3:9, 1] = behavior[20, 2:] = np.nan
    population = prepared(replace(recording, behavior=behavior))
    assert np.array_equal(population.behavior_valid.numpy(), np.isfinite(behavior))
    assert (population.behavior[~population.behavior_valid] == 0).all()


def test_a_cell_that_never_changes_is_zero(recording: CalciumRecording) -> None:
    activity = recording.activity.copy()
    activity[:, 2] = 3.3
    population = prepared(replace(recording, activity=activity))
    assert (population.activity[:, 2].abs() < 1e-5).all()
    assert population.population_context.isfinite().all()


def test_missing_activity_is_no_target(recording: CalciumRecording) -> None:
    activity = recording.activity.copy()
    activity[5:8, 1] = np.nan
    population = prepared(replace(recording, activity=activity))
    assert np.array_equal(population.valid.numpy(), np.isfinite(activity))
    assert (population.activity[5:8, 1] == 0).all()
    assert population.population_context.isfinite().all()


def test_surroundings_are_the_moments_of_the_others(recording: CalciumRecording) -> None:
    population = prepared(recording)
    for cell in range(6):
        others = population.activity[:, [c for c in range(6) if c != cell]]
        beside = population.activity[:, [c for c in (cell - 1, cell + 1) if 0 <= c < 6]]
        expected = [f(group) for group in (others, beside) for f in (_mean, _deviation)]
        torch.testing.assert_close(
            population.population_context[:, cell], torch.stack(expected, -1), atol=1e-3, rtol=1e-4
        )


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean(1)


def _deviation(values: torch.Tensor) -> torch.Tensor:
    return values.std(1, correction=0)


def test_surroundings_never_hold_a_cells_own_activity(recording: CalciumRecording) -> None:
    """What is masked in a cell must not come back through its surroundings."""
    activity = prepared(recording).activity
    near = neighbor_adjacency(recording.position, 65.0)
    before = compute_population_context(activity, near)
    for cell in range(6):
        other = activity.clone()
        other[:, cell] = torch.randn(FRAMES, generator=torch.Generator().manual_seed(cell))
        after = compute_population_context(other, near)
        assert torch.equal(before[:, cell], after[:, cell])
        assert not torch.equal(before[:, cell - 1], after[:, cell - 1])


def test_without_neighbours_nothing_is_near() -> None:
    population = prepared(recording_of(list("abc")))
    assert (population.population_context[..., 2:] == 0).all()
    assert (population.population_context[..., 1] > 0).all()


def test_a_cell_alone_has_no_surroundings() -> None:
    assert (prepared(recording_of(["a"])).population_context == 0).all()


def test_cells_without_a_position_are_nobodys_neighbours(recording: CalciumRecording) -> None:
    position = recording.position.copy()
    position[1] = np.nan
    near = neighbor_adjacency(position, 65.0)
    assert (near[1] == 0).all()
    assert (near[:, 1] == 0).all()
    assert near[2, 3] == near[3, 2] == 1
