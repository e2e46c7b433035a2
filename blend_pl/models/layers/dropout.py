"""Dropout with fast generation of masks on a CPU."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUANTIZATION_LEVELS = 2**16


class FastDropout(nn.Dropout):
    """`nn.Dropout` that, on a CPU, draws four entries of the mask from one random integer of 64 bits.

    On a CPU, the dropped fraction is the multiple of 2^-16 nearest to p.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Applies dropout to a tensor of any shape."""
        return fast_dropout(tokens, self.p, self.training)


def fast_dropout(tokens: Tensor, p: float, training: bool) -> Tensor:
    """Applies dropout; see `FastDropout`."""
    threshold = round(p * QUANTIZATION_LEVELS)
    if tokens.device.type != "cpu" or not 0 < threshold < QUANTIZATION_LEVELS:
        return F.dropout(tokens, p, training)
    if not training:
        return tokens
    return tokens * dropout_mask(tokens, tokens.shape, p)


def dropout_mask(like: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """Draws a mask: 0 for dropped entries and 1 / (1 - p) for the others.

    Args:
        like: a tensor on a CPU with the dtype of the mask.
        shape: shape of the mask.
        p: fraction of entries that is dropped.
    """
    threshold, size = round(p * QUANTIZATION_LEVELS), math.prod(shape)
    if threshold == QUANTIZATION_LEVELS:
        return like.new_zeros(shape)
    random_bits = like.new_empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
    # Compared in place: a boolean tensor is slower to create and to multiply with.
    mask = random_bits.view(torch.int16).ge_(threshold - QUANTIZATION_LEVELS // 2)[:size].view(shape)
    scale = torch.tensor(1 / (1 - threshold / QUANTIZATION_LEVELS), dtype=like.dtype)
    if like.dtype == torch.bfloat16:
        # bfloat16 has 16 bits as well: the bit pattern of the scale is written without a conversion.
        return mask.mul_(scale.view(torch.int16)).view(torch.bfloat16)
    return mask.to(like.dtype).mul_(scale)
