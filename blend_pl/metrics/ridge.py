"""Ridge regression from second moments, accumulated over batches and processes in any order.

A row is z = (1, d, y, h): d + h = x are the N inputs, y the Y outputs, and h is the mean of the inputs over a call,
rounded to integers. Sums of integers are exact in float64, so inputs far from zero keep their precision, and d is
small. Only the sum of z z^T is stored, a square matrix with 1 + N + Y + N rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from blend_pl.metrics.score import r_squared


def moments_size(n_inputs: int, n_outputs: int) -> int:
    """Returns the number of rows and columns of the matrix that `row_moments` returns."""
    return 1 + 2 * n_inputs + n_outputs


def row_moments(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Returns the sum of z z^T over rows.

    Args:
        inputs: (rows, N) any dtype, at least one row.
        outputs: (rows, Y) float64, preferably roughly centered.

    Returns:
        Square float64 matrix of size 1 + N + Y + N. Matrices of different rows can be added. Non-finite inputs make the
        first row non-finite.
    """
    n_rows, n_inputs = inputs.shape
    rows = outputs.new_empty(n_rows, 1 + n_inputs + outputs.shape[1])
    deviations = rows[:, 1 : 1 + n_inputs]
    rows[:, 0] = 1
    rows[:, 1 + n_inputs :] = outputs
    deviations.copy_(inputs)
    offset = deviations.mean(0).round()
    deviations -= offset
    inner_moments = rows.mT @ rows
    offset_moments = offset[:, None] * inner_moments[0]
    return torch.cat(
        [
            torch.cat([inner_moments, offset_moments.mT], 1),
            torch.cat([offset_moments, offset_moments[:, :1] * offset], 1),
        ]
    )


def rounded_mean(moments: Tensor, n_inputs: int) -> Tensor:
    """Returns (..., N) rounded means of the inputs from (..., P, P) sums of `row_moments`; 0 without rows."""
    return (moments[..., -n_inputs:, 0] / moments[..., :1, 0].clamp(min=1)).round()


def merge_offsets(moments: Tensor, reference: Tensor) -> Tensor:
    """Merges the integer part of the inputs into the moments, relative to a common reference.

    Args:
        moments: (..., P, P) sums of `row_moments`.
        reference: (..., N) the reference r, from `rounded_mean`.

    Returns:
        (..., 1 + N + Y, 1 + N + Y) second moments of the rows (1, x - r, y).
    """
    n_inputs = reference.shape[-1]
    size = moments.shape[-1] - n_inputs
    zeros = reference.new_zeros(*reference.shape[:-1], size - 1)
    moments = _center_moments(moments, torch.cat([zeros, reference], -1))
    merged = moments[..., :size, :size].clone()
    input_columns = slice(1, 1 + n_inputs)
    merged[..., input_columns, :] += moments[..., size:, :size]
    merged[..., :, input_columns] += moments[..., :size, size:]
    merged[..., input_columns, input_columns] += moments[..., size:, size:]
    return merged


@dataclass(frozen=True)
class RidgeFit:
    """Ridge regressions for several penalties.

    Attributes:
        mean: (..., N + Y) mean of inputs (relative to the reference) and outputs.
        weights: (..., A, N, Y) weights for each of A penalties.
    """

    mean: Tensor
    weights: Tensor

    @classmethod
    def fit_path(cls, moments: Tensor, n_outputs: int, penalties: Tensor) -> "RidgeFit":
        """Minimizes |y - b - W^T x|^2 + penalty |W|^2 for every penalty with one eigendecomposition.

        Args:
            moments: (..., 1 + N + Y, 1 + N + Y) second moments of the training rows, from `merge_offsets`.
            n_outputs: Y.
            penalties: (A,) positive.
        """
        mean = moments[..., 0, 1:] / moments[..., :1, 0].clamp(min=1)
        centered = _center_moments(moments, mean)
        input_columns, output_columns = slice(1, -n_outputs), slice(-n_outputs, None)
        eigenvalues, eigenvectors = torch.linalg.eigh(centered[..., input_columns, input_columns])
        projected = eigenvectors.mT @ centered[..., input_columns, output_columns]
        penalized_eigenvalues = eigenvalues.clamp(min=0)[..., None, :] + penalties[:, None]
        return cls(
            mean, eigenvectors[..., None, :, :] @ (projected[..., None, :, :] / penalized_eigenvalues[..., None])
        )

    def score(self, moments: Tensor, constant: Tensor) -> Tensor:
        """Returns the R2 on other rows, averaged over outputs.

        Args:
            moments: (..., 1 + N + Y, 1 + N + Y) second moments of the rows to predict, relative to the same reference.
            constant: (..., Y) bool, whether an output is constant in these rows.

        Returns:
            (..., A) R2 for each penalty; nan for fewer than two rows. A constant output counts 1 without error and 0
            otherwise, as in scikit-learn.
        """
        return self.output_scores(moments, constant).mean(-1)

    def output_scores(self, moments: Tensor, constant: Tensor) -> Tensor:
        """Returns the (..., A, Y) R2 of each output on other rows; arguments are those of `score`."""
        moments = _center_moments(moments, self.mean)
        n_rows, n_outputs = moments[..., :1, 0], self.weights.shape[-1]
        # The error y - W^T x of centered rows is a linear map of a row.
        identity = torch.eye(n_outputs, dtype=moments.dtype, device=moments.device)
        identity = identity.expand(*self.weights.shape[:-2], -1, -1)
        error_map = torch.cat([torch.zeros_like(identity[..., :1, :]), -self.weights, identity], -2)
        residual = (error_map * (moments[..., None, :, :] @ error_map)).sum(-2)
        outputs = moments[..., -n_outputs:, -n_outputs:].diagonal(dim1=-2, dim2=-1)
        total = outputs - moments[..., 0, -n_outputs:].square() / n_rows
        scores = r_squared(residual, total[..., None, :], constant[..., None, :])
        return scores.masked_fill((n_rows < 2)[..., None], torch.nan)


def _center_moments(moments: Tensor, mean: Tensor) -> Tensor:
    """Returns the moments of rows (1, v - mean) from those of rows (1, v)."""
    mean = torch.cat([torch.zeros_like(mean[..., :1]), mean], -1)
    outer = mean[..., :, None] * moments[..., :1, :]
    return moments - outer - outer.mT + moments[..., :1, :1] * (mean[..., :, None] * mean[..., None, :])
