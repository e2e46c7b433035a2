"""Dropout whose masks do not cost more than what they are put on."""

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
    drawn = torch.empty(-(-tokens.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = drawn.view(torch.int16)[: tokens.numel()].view(tokens.shape) >= threshold - LEVELS // 2
    return tokens * kept.to(tokens.dtype).mul_(1 / (1 - threshold / LEVELS))
