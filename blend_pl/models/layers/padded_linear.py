"""Widths that processors like: the same numbers, computed at multiples of 8."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAD_MULTIPLE = 8
"""Matrix products of other widths run at two thirds of the speed on a CPU, and on a GPU miss its fast units."""


def round_up_to_multiple(size: int) -> int:
    """The next multiple of 8."""
    return -(-size // PAD_MULTIPLE) * PAD_MULTIPLE


def pad_columns(tensor: Tensor) -> Tensor:
    """Zeros behind the last axis, up to the next multiple of 8; the tensor itself where it has such a size."""
    padding = round_up_to_multiple(tensor.shape[-1]) - tensor.shape[-1]
    return F.pad(tensor, (0, padding)) if padding else tensor


def pad_rows(matrix: Tensor) -> Tensor:
    """Zeros below the last row, up to the next multiple of 8; the matrix itself where it has such a height."""
    padding = round_up_to_multiple(matrix.shape[-2]) - matrix.shape[-2]
    return F.pad(matrix, (0, 0, 0, padding)) if padding else matrix


def padded_linear(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`, computed at multiples of 8 throughout."""
    out = F.linear(pad_columns(tokens), pad_columns(pad_rows(weight)), None if bias is None else pad_columns(bias))
    return out[..., : weight.shape[0]]


class PaddedLinear(nn.Linear):
    """`nn.Linear`, with its weights, computed at multiples of 8."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if tokens.device.type == "cpu":
            if torch.is_autocast_enabled("cpu"):
                # Products in bfloat16 are as fast at any width.
                return F.linear(tokens, self.weight, self.bias)
            out: Tensor = _PaddedLinearFunction.apply(tokens, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return out
        return padded_linear(tokens, self.weight, self.bias)


class _PaddedLinearFunction(torch.autograd.Function):
    """`F.linear` on a CPU, where only the width of a product's result matters: forwards, and backwards too.

    Results are views of the wider ones, of which nothing is copied.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out = F.linear(tokens, pad_rows(weight), None if bias is None else pad_columns(bias))
        return out[..., : weight.shape[0]]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        return (
            (grad @ pad_columns(weight))[..., : weight.shape[1]] if ctx.needs_input_grad[0] else None,
            (tokens.flatten(0, -2).t() @ rows).t() if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )
