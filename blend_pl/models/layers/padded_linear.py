"""Widths that processors like: the same numbers, computed at multiples of 8."""

from typing import Any

import torch
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


def heighten(matrix: Tensor) -> Tensor:
    """Zeros below the last row, up to the next multiple of 8; the matrix itself where it has such a height."""
    missing = aligned(matrix.shape[-2]) - matrix.shape[-2]
    return F.pad(matrix, (0, 0, 0, missing)) if missing else matrix


def padded_linear(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`, computed at multiples of 8 throughout."""
    out = F.linear(widen(tokens), widen(heighten(weight)), None if bias is None else widen(bias))
    return out[..., : weight.shape[0]]


class AlignedLinear(nn.Linear):
    """`nn.Linear`, with its weights, computed at multiples of 8."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if tokens.device.type == "cpu":
            if torch.is_autocast_enabled("cpu"):
                # Products in bfloat16 are as fast at any width.
                return F.linear(tokens, self.weight, self.bias)
            return _Product.apply(tokens, self.weight, self.bias)  # type: ignore[no-any-return]
        return padded_linear(tokens, self.weight, self.bias)


class _Product(torch.autograd.Function):
    """`F.linear` on a CPU, where only the width of a product's result matters: forwards, and backwards too.

    Results are views of the wider ones, of which nothing is copied.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out = F.linear(tokens, heighten(weight), None if bias is None else widen(bias))
        return out[..., : weight.shape[0]]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        tokens, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        return (
            (grad @ widen(weight))[..., : weight.shape[1]] if ctx.needs_input_grad[0] else None,
            (tokens.flatten(0, -2).t() @ rows).t() if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )
