"""Linear maps computed at widths that are multiples of 8, for speed."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAD_MULTIPLE = 8
"""Matrix products of other widths run at two thirds of the speed on a CPU and do not use the tensor cores of a GPU."""


def round_up_to_multiple(size: int) -> int:
    """Returns the smallest multiple of 8 that is at least `size`."""
    return -(-size // PAD_MULTIPLE) * PAD_MULTIPLE


def pad_columns(tensor: Tensor) -> Tensor:
    """Pads the last axis with zeros to a multiple of 8; returns the tensor itself if no padding is needed."""
    padding = round_up_to_multiple(tensor.shape[-1]) - tensor.shape[-1]
    return F.pad(tensor, (0, padding)) if padding else tensor


def pad_rows(matrix: Tensor) -> Tensor:
    """Pads the rows with zeros to a multiple of 8; returns the matrix itself if no padding is needed."""
    padding = round_up_to_multiple(matrix.shape[-2]) - matrix.shape[-2]
    return F.pad(matrix, (0, 0, 0, padding)) if padding else matrix


def padded_linear(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Computes `F.linear` with both widths padded to multiples of 8."""
    out = F.linear(pad_columns(tokens), pad_columns(pad_rows(weight)), None if bias is None else pad_columns(bias))
    return out[..., : weight.shape[0]]


class PaddedLinear(nn.Linear):
    """`nn.Linear`, with the same parameters, computed at widths padded to multiples of 8."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        if tokens.device.type == "cpu":
            if torch.is_autocast_enabled("cpu"):
                # The speed of products in bfloat16 does not depend on the width.
                return F.linear(tokens, self.weight, self.bias)
            out: Tensor = _PaddedLinearFunction.apply(tokens, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return out
        return padded_linear(tokens, self.weight, self.bias)


class _PaddedLinearFunction(torch.autograd.Function):
    """`F.linear` on a CPU, where only the width of the result of a product affects its speed.

    Results are views of the padded results, without a copy.
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
