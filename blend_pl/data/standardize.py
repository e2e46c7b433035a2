"""Z-scores fitted on training data."""

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)


@dataclass(frozen=True)
class Standardizer(Generic[ArrayT]):
    """Z-score of D columns.

    Attributes:
        mean: (D,) in the unit and dtype of the values.
        std: (D,) in the unit and dtype of the values; `constant_std` for a constant column.

    Example:
        >>> velocity = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])
        >>> Standardizer.fit(velocity).transform(velocity)
        array([[-1.,  0.],
               [ 1.,  0.],
               [nan,  0.]])
    """

    mean: ArrayT
    std: ArrayT

    @classmethod
    def fit(
        cls,
        values: ArrayT,
        weights: np.ndarray | None = None,
        constant_std: float = 1.0,
        rtol: float = float(np.finfo(np.float32).eps),
        atol: float = 0.0,
    ) -> "Standardizer[ArrayT]":
        """Fits mean and standard deviation over all axes but the last, in double precision.

        Args:
            values: (..., D).
            weights: (rows,) or (rows, D) weights of the flattened rows, 0 to leave a value out; None weights all finite
                values equally and leaves the others out.
            constant_std: replaces the standard deviation of constant columns: 1 only centers them, infinity maps them
                to 0.
            rtol: a column is constant where its standard deviation is at most `rtol * abs(mean) + atol`; rounding of
                the mean alone does not count as a deviation.
            atol: see `rtol`.
        """
        samples = np.asarray(values).astype(np.float64).reshape(math.prod(values.shape[:-1]), values.shape[-1])
        weights = np.isfinite(samples) if weights is None else weights
        weights = weights[:, None] if weights.ndim == 1 else weights
        total = weights.sum(0, dtype=np.float64)
        total[total == 0] = 1.0
        mean = (np.where(weights > 0, samples, 0.0) * weights).sum(0) / total
        std = np.sqrt((np.where(weights > 0, samples - mean, 0.0) ** 2 * weights).sum(0) / total)
        std[std <= rtol * np.abs(mean) + atol] = constant_std
        if isinstance(values, Tensor):
            return Standardizer(torch.from_numpy(mean).to(values.dtype), torch.from_numpy(std).to(values.dtype))
        return Standardizer(mean.astype(values.dtype), std.astype(values.dtype))

    def to(self, device: torch.device) -> "Standardizer[Tensor]":
        """Returns the same z-score as tensors on a device."""
        return Standardizer(torch.as_tensor(self.mean, device=device), torch.as_tensor(self.std, device=device))

    def transform(self, values: ArrayT) -> ArrayT:
        """Returns z-scores of (..., D) values; NaN stays NaN."""
        z_scores: ArrayT = (values - self.mean) / self.std
        return z_scores
