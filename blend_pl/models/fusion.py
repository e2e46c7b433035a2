"""How privileged context joins the tokens of a teacher."""

import math

import torch
from torch import Tensor, nn


class Fusion(nn.Module):
    """Base class of what joins tokens (B, T', tokens) and context (B, T', D) into tokens (B, T', width)."""

    width: int


class Concatenation(Fusion):
    """Behaviour embedded and laid beside the neural token (BLEND): [E(x) sqrt(N), E_b(b) sqrt(d_b)].

    Args:
        tokens: width of a neural token.
        context: D, privileged channels.
        size: d_b, width of the embedded behaviour; None for D.
    """

    def __init__(self, tokens: int, context: int, size: int | None = None) -> None:
        super().__init__()
        size = size or context
        self.width = tokens + size
        self.scale = math.sqrt(size)
        self.embedding = nn.Linear(context, size)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Tokens (B, T', tokens) and context (B, T', D) -> (B, T', width)."""
        return torch.cat([tokens, self.embedding(context) * self.scale], dim=-1)
