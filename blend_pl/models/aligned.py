"""Widths that processors like: the same numbers, computed at multiples of 8."""

import torch.nn.functional as F
from torch import Tensor, nn

MULTIPLE = 8
"""Matrix products of other widths run at two thirds of the speed on a CPU, and on a GPU miss its fast units."""


def aligned(size: int) -> int:
    """The next multiple of 8."""
    return -(-size // MULTIPLE) * MULTIPLE


def widen(tensor: Tensor) -> Tensor:
    """Zeros behind the last axis, up to the next multiple of 8; the tensor itself where it has such a size."""
    missing = aligned(tensor.shape[-1]) - tensor.shape[-1]
    return F.pad(tensor, (0, missing)) if missing else tensor


class AlignedLinear(nn.Linear):
    """`nn.Linear`, with its weights, computed at multiples of 8."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        missing = aligned(self.out_features) - self.out_features
        weight = widen(self.weight)
        if not missing:
            return F.linear(widen(tokens), weight, self.bias)
        bias = None if self.bias is None else widen(self.bias)
        return F.linear(widen(tokens), F.pad(weight, (0, 0, 0, missing)), bias)[..., : self.out_features]
