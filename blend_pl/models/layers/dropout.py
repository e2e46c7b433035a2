"""Dropout whose masks do not cost more than what they are put on."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16


class Dropout(nn.Dropout):
    """`nn.Dropout`. On a CPU, where drawing dominates, four masks' entries come from one random number of 64 bits.

    The share that is dropped is then the multiple of 2^-16 nearest to p.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Any shape -> the same."""
        return dropout(tokens, self.p, self.training)


def dropout(tokens: Tensor, p: float, training: bool) -> Tensor:
    """The function behind `Dropout`."""
    threshold = round(p * LEVELS)
    if tokens.device.type != "cpu" or not 0 < threshold < LEVELS:
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
    threshold, size = round(p * LEVELS), math.prod(shape)
    if threshold == LEVELS:
        return like.new_zeros(shape)
    drawn = like.new_empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
    # Compared in place, for booleans are slow to come by and slow to use.
    mask = drawn.view(torch.int16).ge_(threshold - LEVELS // 2)[:size].view(shape)
    scale = torch.tensor(1 / (1 - threshold / LEVELS), dtype=like.dtype)
    if like.dtype == torch.bfloat16:
        # Of the same width: its bits, without a conversion.
        return mask.mul_(scale.view(torch.int16)).view(torch.bfloat16)
    return mask.to(like.dtype).mul_(scale)
