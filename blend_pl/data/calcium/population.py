"""A recording as tensors: z-scored on training time alone, with what surrounds each cell."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from blend_pl.data.calcium.recording import CalciumRecording
from blend_pl.data.nlb.batches import Standardisation

SURROUNDINGS = 4
"""Mean and standard deviation of the population, and of the neighbours, without the cell itself."""


@dataclass(frozen=True)
class Population:
    """T frames of N cells, the first `train_frames` of them training time.

    Attributes:
        name: the recording.
        activity: (T, N) float32, z-scored; 0 where missing and for cells that never change.
        valid: (T, N) bool, where activity was recorded.
        surroundings: (T, N, 4) float32, see `SURROUNDINGS`.
        behavior: (T, D) float32, continuous channels z-scored, states 0 or 1; 0 where missing.
        behavior_valid: (T, D) bool.
        cell: (N,) int64, rows of the cells in the data set.
        train_frames: number of frames of training time.
    """

    name: str
    activity: Tensor
    valid: Tensor
    surroundings: Tensor
    behavior: Tensor
    behavior_valid: Tensor
    cell: Tensor
    train_frames: int

    def to(self, device: torch.device) -> "Population":
        """The same population on another device."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values.update({name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})
        return Population(**values)


def prepare(recording: CalciumRecording, cell: np.ndarray, train_time: float, radius: float) -> Population:
    """Brings a recording into the form that windows are cut from.

    Args:
        recording: as it was read.
        cell: (N,) rows of its cells in the data set.
        train_time: share of the frames, from the start, that mean and deviation are taken from.
        radius: cells closer than this are neighbours.
    """
    train_frames = round(len(recording.times) * train_time)
    activity, valid = _standardised(torch.from_numpy(recording.activity), train_frames)
    behavior, behavior_valid = _standardised(torch.from_numpy(recording.behavior), train_frames)
    states = slice(behavior.shape[1] - recording.states, None)
    behavior[:, states] = torch.from_numpy(recording.behavior)[:, states].nan_to_num(0.0)
    return Population(
        name=recording.name,
        activity=activity,
        valid=valid,
        surroundings=surroundings(activity, neighbours(recording.position, radius)),
        behavior=behavior,
        behavior_valid=behavior_valid,
        cell=torch.from_numpy(cell.astype(np.int64)),
        train_frames=train_frames,
    )


def _standardised(values: Tensor, train_frames: int) -> tuple[Tensor, Tensor]:
    """z-scored columns with 0 where missing, and where they were measured."""
    valid = values.isfinite()
    unit = Standardisation.fit(values[None, :train_frames])
    return torch.where(valid, (values - unit.mean) / unit.std, 0.0), valid


def neighbours(position: np.ndarray, radius: float) -> Tensor:
    """Who is near whom: (N, N) float32, 1 for cells closer than `radius`, 0 for the cell itself."""
    known = np.flatnonzero(np.isfinite(position).all(axis=1))
    near = torch.zeros(len(position), len(position))
    pairs = cKDTree(position[known]).query_pairs(radius, output_type="ndarray")
    rows, columns = torch.from_numpy(known[pairs]).unbind(1) if len(pairs) else (torch.empty(0, dtype=torch.int64),) * 2
    near[rows, columns] = near[columns, rows] = 1.0
    return near


def surroundings(activity: Tensor, near: Tensor) -> Tensor:
    """What each cell is surrounded by; never a cell's own activity, which would give away what is masked.

    Args:
        activity: (T, N).
        near: (N, N), see `neighbours`.

    Returns:
        (T, N, 4): mean and standard deviation over all other cells and over the neighbours; 0 without any.
    """
    return torch.stack(
        [*_moments(activity, 1 - torch.eye(len(near), dtype=near.dtype)), *_moments(activity, near)], dim=-1
    )


def _moments(activity: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    count = weight.sum(0).clamp(min=1)
    mean = activity @ weight / count
    return mean, (activity.square() @ weight / count - mean.square()).clamp(min=0).sqrt()
