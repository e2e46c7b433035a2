"""Tensors of a recording, z-scored on training time, with the population context of each cell."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from blend_pl.data.calcium.recording import CalciumRecording
from blend_pl.data.standardize import Standardizer

POPULATION_CONTEXT_DIM = 4
"""Mean and standard deviation over all other cells, and over the neighbors of a cell."""


@dataclass(frozen=True)
class CalciumSession:
    """One recording as tensors: T frames of N cells; the first `n_train_frames` frames are training time.

    Attributes:
        name: name of the recording.
        activity: (T, N) float32, z-scored; 0 where missing and for constant cells.
        valid: (T, N) bool, where activity was recorded.
        population_context: (T, N, 4) float32, see `POPULATION_CONTEXT_DIM`.
        behavior: (T, D) float32, continuous channels z-scored, states 0 or 1; 0 where missing.
        behavior_valid: (T, D) bool, where behavior was recorded.
        cell_index: (N,) int64, rows of the cells in the data set.
        n_train_frames: number of frames of training time.
    """

    name: str
    activity: Tensor
    valid: Tensor
    population_context: Tensor
    behavior: Tensor
    behavior_valid: Tensor
    cell_index: Tensor
    n_train_frames: int

    def to(self, device: torch.device) -> "CalciumSession":
        """Returns a copy on another device."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values.update({name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})
        return CalciumSession(**values)


def build_calcium_session(
    recording: CalciumRecording, cell_index: np.ndarray, train_time: float, radius: float
) -> CalciumSession:
    """Converts a recording to tensors and z-scores it.

    Args:
        recording: the recording.
        cell_index: (N,) rows of its cells in the data set.
        train_time: fraction of the frames, from the start, that mean and standard deviation are fitted on.
        radius: maximum distance of neighbors, in the unit of the positions.
    """
    n_train_frames = round(len(recording.times) * train_time)
    activity, valid = _standardize(torch.from_numpy(recording.activity), n_train_frames)
    behavior, behavior_valid = _standardize(torch.from_numpy(recording.behavior), n_train_frames)
    state_channels = slice(behavior.shape[1] - recording.n_states, None)
    behavior[:, state_channels] = torch.from_numpy(recording.behavior)[:, state_channels].nan_to_num(0.0)
    return CalciumSession(
        name=recording.name,
        activity=activity,
        valid=valid,
        population_context=compute_population_context(
            activity, neighbor_adjacency(recording.position, radius), None if valid.all() else valid
        ),
        behavior=behavior,
        behavior_valid=behavior_valid,
        cell_index=torch.from_numpy(cell_index.astype(np.int64)),
        n_train_frames=n_train_frames,
    )


def _standardize(values: Tensor, n_train_frames: int) -> tuple[Tensor, Tensor]:
    """Returns z-scored columns, 0 where missing, and the mask of measured values."""
    valid = values.isfinite()
    standardizer = Standardizer.fit(values[:n_train_frames])
    return torch.where(valid, standardizer.transform(values), 0.0), valid


def neighbor_adjacency(position: np.ndarray, radius: float) -> Tensor:
    """Returns the (N, N) float32 adjacency: 1 for cells closer than `radius`, else 0.

    The diagonal, and cells without a position (NaN), are 0.
    """
    located_cells = np.flatnonzero(np.isfinite(position).all(axis=1))
    adjacency = torch.zeros(len(position), len(position))
    pairs = cKDTree(position[located_cells]).query_pairs(radius, output_type="ndarray")
    rows, columns = (
        torch.from_numpy(located_cells[pairs]).unbind(1) if len(pairs) else (torch.empty(0, dtype=torch.int64),) * 2
    )
    adjacency[rows, columns] = adjacency[columns, rows] = 1.0
    return adjacency


def compute_population_context(activity: Tensor, adjacency: Tensor, valid: Tensor | None = None) -> Tensor:
    """Computes statistics of the activity around each cell.

    A cell's own activity is excluded, because it would reveal masked values.

    Args:
        activity: (T, N).
        adjacency: (N, N), see `neighbor_adjacency`.
        valid: (T, N) bool, where activity was recorded, 0 elsewhere; None for everywhere.

    Returns:
        (T, N, 4): mean and standard deviation over all other cells and over the neighbors; 0 without any.
    """
    return torch.stack(
        [
            *_weighted_mean_and_std(activity, 1 - torch.eye(len(adjacency), dtype=adjacency.dtype), valid),
            *_weighted_mean_and_std(activity, adjacency, valid),
        ],
        dim=-1,
    )


def _weighted_mean_and_std(activity: Tensor, weight: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    count = (weight.sum(0) if valid is None else valid.to(weight.dtype) @ weight).clamp(min=1)
    mean = activity @ weight / count
    return mean, (activity.square() @ weight / count - mean.square()).clamp(min=0).sqrt()
