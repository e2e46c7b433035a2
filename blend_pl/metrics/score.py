"""What all scores share: float64 sums that survive precision settings, and the R2 convention of the benchmark."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from blend_pl.errors import BlendError


class StreamingScore(Metric):
    """A metric whose states are plain float64 sums: any division into batches and ranks gives the same value.

    A trial that is given twice counts twice; samplers must not repeat trials to even out ranks.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    def add_sum_state(self, name: str, *shape: int) -> None:
        """Registers a state of zeros that is added up over ranks.

        Args:
            name: attribute of the state.
            shape: its shape; none for a scalar.
        """
        self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def reset(self) -> None:
        """Sets all sums to zero."""
        # Lightning resets in inference mode; sums made there could not be added to outside of it.
        with torch.inference_mode(False):
            super().reset()

    def _apply(self, fn: Callable, exclude_state: Sequence[str] = "") -> nn.Module:
        # A half-precision model must not take its scores along: an integer probe follows the device but no dtype.
        device = fn(torch.zeros(1, dtype=torch.uint8, device=self.device)).device
        return super()._apply(lambda tensor: tensor.to(device), exclude_state)


def expect_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Checks a tensor's shape; -1 stands for any length.

    Raises:
        BlendError: the shape differs.
    """
    matches = len(tensor.shape) == len(shape) and all(
        expected in (-1, actual) for actual, expected in zip(tensor.shape, shape, strict=True)
    )
    if not matches:
        expected_shape = ", ".join("any" if expected == -1 else str(expected) for expected in shape)
        raise BlendError(f"{name} have shape {tuple(tensor.shape)}; give them in shape ({expected_shape})")


def expect_row_indices(name: str, index: Tensor, low: int, high: int) -> None:
    """Checks that all row numbers lie in [low, high).

    Raises:
        BlendError: a number lies outside or is no integer.
    """
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise BlendError(f"{name} are {index.dtype}; give integers")
    if index.numel() and not (low <= int(index.min()) and int(index.max()) < high):
        index_range = f"{int(index.min())} to {int(index.max())}"
        raise BlendError(f"{name} run from {index_range}; there are only rows {low} to {high - 1}")


def r_squared(residual: Tensor, total: Tensor, constant: Tensor) -> Tensor:
    """Coefficient of determination, finite for constant targets as in scikit-learn's `r2_score`.

    Args:
        residual: sums of squared errors, any shape.
        total: sums of squares of the targets about their mean, broadcastable.
        constant: bool, whether the target takes one value only: the score is then 1 for no error and 0 for any.
    """
    return torch.where(constant, (residual == 0).to(residual.dtype), 1 - residual / total)
