"""Base class of streaming scores, shape checks, and the R2 convention of the benchmark."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from blend_pl.errors import BlendError


class StreamingScore(Metric):
    """A metric with float64 sums as states, so any division into batches and ranks gives the same value.

    A trial that is added twice counts twice; samplers must not repeat trials to balance ranks.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    def add_sum_state(self, name: str, *shape: int) -> None:
        """Registers a state of zeros that is summed over ranks.

        Args:
            name: attribute of the state.
            shape: shape of the state; empty for a scalar.
        """
        self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def reset(self) -> None:
        """Sets all sums to zero."""
        # Lightning resets in inference mode; tensors created there cannot be updated in place outside of it.
        with torch.inference_mode(False):
            super().reset()

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        # An integer tensor follows the device of a model but not its dtype, so states stay float64 in half precision.
        device = fn(torch.zeros(1, dtype=torch.uint8, device=self.device)).device
        return super()._apply(lambda tensor: tensor.to(device), exclude_state)


def expect_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Checks a tensor's shape; -1 matches any length.

    Raises:
        BlendError: the shape differs.
    """
    matches = len(tensor.shape) == len(shape) and all(
        expected in (-1, actual) for actual, expected in zip(tensor.shape, shape, strict=True)
    )
    if not matches:
        expected_shape = ", ".join("any" if expected == -1 else str(expected) for expected in shape)
        raise BlendError(f"{name} have shape {tuple(tensor.shape)}; expected ({expected_shape})")


def expect_row_indices(name: str, index: Tensor, low: int, high: int) -> None:
    """Checks that all row indices are in [low, high).

    Raises:
        BlendError: an index is out of range or not an integer.
    """
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise BlendError(f"{name} are {index.dtype}; pass integers")
    if index.numel() and not (low <= int(index.min()) and int(index.max()) < high):
        index_range = f"{int(index.min())} to {int(index.max())}"
        raise BlendError(f"{name} range from {index_range}; valid rows are {low} to {high - 1}")


def mean_over_varying(scores: Tensor, constant: Tensor) -> Tensor:
    """Averages R2 over the targets that vary; a target without variance has nothing to explain and no R2.

    Args:
        scores: (..., Y) R2 of each target.
        constant: (..., Y) bool, whether the target is constant.

    Returns:
        (...) means; nan without a target that varies.
    """
    return scores.masked_fill(constant, 0.0).sum(-1) / (~constant).sum(-1)


def r_squared(residual: Tensor, total: Tensor, constant: Tensor) -> Tensor:
    """Returns the coefficient of determination, finite for constant targets as in scikit-learn's `r2_score`.

    Args:
        residual: sums of squared errors, any shape.
        total: sums of squares of the centered targets, broadcastable.
        constant: bool, whether the target is constant; its score is 1 without error and 0 otherwise.
    """
    return torch.where(constant, (residual == 0).to(residual.dtype), 1 - residual / total)
