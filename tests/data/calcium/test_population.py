"""Tests of standardized sessions and their population context."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.calcium import make_recording

from blend_pl.data.calcium.population import (
    CalciumSession,
    build_calcium_session,
    compute_population_context,
    neighbor_adjacency,
)
from blend_pl.data.calcium.recording import CalciumRecording

N_FRAMES, N_TRAIN_FRAMES = 60, 45


def make_session(recording: CalciumRecording, radius: float = 65.0) -> CalciumSession:
    return build_calcium_session(recording, np.arange(len(recording.cell_id)), N_TRAIN_FRAMES / N_FRAMES, radius)


def move_closer(recording: CalciumRecording) -> CalciumRecording:
    """Returns the recording with cells at a spacing of 50 on a line, so that adjacent cells are neighbors."""
    return replace(recording, position=recording.position / 20)


@pytest.fixture
def recording() -> CalciumRecording:
    return move_closer(make_recording(list("abcdef")))


def test_activity_is_standardized_over_training_time(recording: CalciumRecording) -> None:
    session = make_session(recording)
    train_activity = session.activity[:N_TRAIN_FRAMES]
    assert session.n_train_frames == N_TRAIN_FRAMES
    torch.testing.assert_close(train_activity.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(train_activity.var(0, correction=0), torch.ones(6))
    raw = torch.from_numpy(recording.activity)
    expected = (raw - raw[:N_TRAIN_FRAMES].mean(0)) / raw[:N_TRAIN_FRAMES].std(0, correction=0)
    torch.testing.assert_close(session.activity, expected)


def test_validation_time_does_not_change_training_time(recording: CalciumRecording) -> None:
    activity, behavior = recording.activity.copy(), recording.behavior.copy()
    activity[N_TRAIN_FRAMES:] = 1000 * np.random.default_rng(1).normal(size=activity[N_TRAIN_FRAMES:].shape)
    behavior[N_TRAIN_FRAMES:] = -77.0
    behavior[N_TRAIN_FRAMES:, 2:] = [0, 0, 1]
    before, after = make_session(recording), make_session(replace(recording, activity=activity, behavior=behavior))
    for name in ("activity", "population_context", "behavior", "valid", "behavior_valid"):
        assert torch.equal(getattr(before, name)[:N_TRAIN_FRAMES], getattr(after, name)[:N_TRAIN_FRAMES]), name
    assert not torch.equal(before.activity, after.activity)
    assert not torch.equal(before.behavior, after.behavior)


def test_states_stay_categories(recording: CalciumRecording) -> None:
    session = make_session(recording)
    assert np.array_equal(session.behavior[:, 2:].numpy(), recording.behavior[:, 2:])
    torch.testing.assert_close(session.behavior[:N_TRAIN_FRAMES, :2].mean(0), torch.zeros(2), atol=1e-5, rtol=0)


def test_missing_behavior_is_marked_invalid(recording: CalciumRecording) -> None:
    behavior = recording.behavior.copy()
    behavior[3:9, 1] = behavior[20, 2:] = np.nan
    session = make_session(replace(recording, behavior=behavior))
    assert np.array_equal(session.behavior_valid.numpy(), np.isfinite(behavior))
    assert (session.behavior[~session.behavior_valid] == 0).all()


def test_constant_cell_is_zero(recording: CalciumRecording) -> None:
    activity = recording.activity.copy()
    activity[:, 2] = 3.3
    session = make_session(replace(recording, activity=activity))
    assert (session.activity[:, 2].abs() < 1e-5).all()
    assert session.population_context.isfinite().all()


def test_missing_activity_is_not_a_target(recording: CalciumRecording) -> None:
    activity = recording.activity.copy()
    activity[5:8, 1] = np.nan
    session = make_session(replace(recording, activity=activity))
    assert np.array_equal(session.valid.numpy(), np.isfinite(activity))
    assert (session.activity[5:8, 1] == 0).all()
    assert session.population_context.isfinite().all()


def test_population_context_equals_moments_of_other_cells_and_neighbors(recording: CalciumRecording) -> None:
    session = make_session(recording)
    for cell in range(6):
        others = session.activity[:, [c for c in range(6) if c != cell]]
        neighbors = session.activity[:, [c for c in (cell - 1, cell + 1) if 0 <= c < 6]]
        expected = [f(group) for group in (others, neighbors) for f in (_mean, _deviation)]
        torch.testing.assert_close(session.population_context[:, cell], torch.stack(expected, -1), atol=1e-3, rtol=1e-4)


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean(1)


def _deviation(values: torch.Tensor) -> torch.Tensor:
    return values.std(1, correction=0)


def test_population_context_excludes_the_cells_own_activity(recording: CalciumRecording) -> None:
    """Otherwise the context would reveal masked values."""
    activity = make_session(recording).activity
    adjacency = neighbor_adjacency(recording.position, 65.0)
    before = compute_population_context(activity, adjacency)
    for cell in range(6):
        other = activity.clone()
        other[:, cell] = torch.randn(N_FRAMES, generator=torch.Generator().manual_seed(cell))
        after = compute_population_context(other, adjacency)
        assert torch.equal(before[:, cell], after[:, cell])
        assert not torch.equal(before[:, cell - 1], after[:, cell - 1])


def test_context_of_neighbors_is_zero_without_neighbors() -> None:
    session = make_session(make_recording(list("abc")))
    assert (session.population_context[..., 2:] == 0).all()
    assert (session.population_context[..., 1] > 0).all()


def test_single_cell_has_zero_population_context() -> None:
    assert (make_session(make_recording(["a"])).population_context == 0).all()


def test_cells_without_a_position_have_no_neighbors(recording: CalciumRecording) -> None:
    position = recording.position.copy()
    position[1] = np.nan
    adjacency = neighbor_adjacency(position, 65.0)
    assert (adjacency[1] == 0).all()
    assert (adjacency[:, 1] == 0).all()
    assert adjacency[2, 3] == adjacency[3, 2] == 1
