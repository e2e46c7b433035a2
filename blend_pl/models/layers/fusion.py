"""How privileged context joins the tokens of a teacher.

Every fusion first maps the context linearly. For a category that is laid out as one channel a level, one of them 1 and
the others 0, such a map is a learned embedding.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models.layers.embedding import sinusoids


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


class Additive(Fusion):
    """Behaviour added to the neural token: E(x) sqrt(N) + E_b(b) sqrt(N).

    Args:
        tokens: width of a neural token.
        context: D, privileged channels.
    """

    def __init__(self, tokens: int, context: int) -> None:
        super().__init__()
        self.width, self.scale = tokens, math.sqrt(tokens)
        self.embedding = nn.Linear(context, tokens)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Tokens (B, T', tokens) and context (B, T', D) -> (B, T', tokens)."""
        return tokens + self.embedding(context) * self.scale


class FiLM(Fusion):
    """Behaviour scales and shifts the neural token (Perez et al., 2018): (1 + G b) E(x) + (B b + c).

    The scale starts at 1 throughout.

    Args:
        tokens: width of a neural token.
        context: D, privileged channels.
    """

    def __init__(self, tokens: int, context: int) -> None:
        super().__init__()
        self.width = tokens
        self.scale, self.shift = nn.Linear(context, tokens, bias=False), nn.Linear(context, tokens)
        nn.init.zeros_(self.scale.weight)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Tokens (B, T', tokens) and context (B, T', D) -> (B, T', tokens)."""
        return tokens * (1 + self.scale(context)) + self.shift(context)


class CrossAttention(Fusion):
    """Neural tokens look at behaviour of all bins: x + W_o attention(Q, K, V), a mean of values over bins.

    Q = W_q (norm(x) + P), K = W_k (E_b(b) + P), V = W_v E_b(b), with sinusoidal positions P, as a token has to know
    where behaviour is in time.

    Args:
        tokens: width of a neural token.
        context: D, privileged channels.
        heads: number of heads; need not divide the width.
    """

    def __init__(self, tokens: int, context: int, heads: int = 2) -> None:
        super().__init__()
        self.width, self.heads = tokens, heads
        inner = heads * -(-tokens // heads)
        self.norm, self.embedding = nn.LayerNorm(tokens), nn.Linear(context, tokens)
        self.query, self.key, self.value = (nn.Linear(tokens, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, tokens)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Tokens (B, T', tokens) and context (B, T', D) -> (B, T', tokens)."""
        positions = sinusoids(tokens.shape[1], self.width, tokens.device).to(tokens.dtype)
        behavior = self.embedding(context)
        projected = self.query(self.norm(tokens) + positions), self.key(behavior + positions), self.value(behavior)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return tokens + self.out_proj(mixed.transpose(1, 2).flatten(-2))
