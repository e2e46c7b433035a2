"""Dropout whose masks do not cost more than what they are put on."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUANTIZATION_LEVELS = 2**16


class FastDropout(nn.Dropout):
    """`nn.Dropout`. On a CPU, where drawing dominates, four masks' entries come from one random number of 64 bits.

    The share that is dropped is then the multiple of 2^-16 nearest to p.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Any shape -> the same."""
        return fast_dropout(tokens, self.p, self.training)


def fast_dropout(tokens: Tensor, p: float, training: bool) -> Tensor:
    """The function behind `FastDropout`."""
    threshold = round(p * QUANTIZATION_LEVELS)
    if tokens.device.type != "cpu" or not 0 < threshold < QUANTIZATION_LEVELS:
        return F.dropout(tokens, p, training)
    if not training:
        return tokens
    return tokens * dropout_mask(tokens, tokens.shape, p)


def dropout_mask(like: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """A mask of this shape, 0 where an entry is dropped and 1 / (1 - p) elsewhere.

    Args:
        like: a tensor of the mask's type, on a CPU.
        shape: the mask's.
        p: share that is dropped.
    """
    threshold, size = round(p * QUANTIZATION_LEVELS), math.prod(shape)
    if threshold == QUANTIZATION_LEVELS:
        return like.new_zeros(shape)
    random_bits = like.new_empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
    # Compared in place, for booleans are slow to come by and slow to use.
    mask = random_bits.view(torch.int16).ge_(threshold - QUANTIZATION_LEVELS // 2)[:size].view(shape)
    scale = torch.tensor(1 / (1 - threshold / QUANTIZATION_LEVELS), dtype=like.dtype)
    if like.dtype == torch.bfloat16:
        # Of the same width: its bits, without a conversion.
        return mask.mul_(scale.view(torch.int16)).view(torch.bfloat16)
    return mask.to(like.dtype).mul_(scale)
