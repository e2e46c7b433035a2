"""Fusion of privileged context with the tokens of a teacher.

Each fusion maps the context linearly first. For a one-hot encoded category, this map is a learned embedding.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models.layers.embedding import sinusoids
from blend_pl.utils.checks import COUNT, check_range


class Fusion(nn.Module):
    """Base class of maps of tokens (B, T', token_dim) and context (B, T', D) to tokens (B, T', output_dim)."""

    output_dim: int
    """Width of a fused token."""


class Concatenation(Fusion):
    """Concatenates embedded behavior and the neural token (BLEND): [E(x) sqrt(N), E_b(b) sqrt(d_b)].

    Args:
        token_dim: width of a neural token.
        context_dim: D, number of privileged channels.
        size: d_b, width of the embedded behavior; None for D.

    Example:
        >>> fusion = Concatenation(token_dim=16, context_dim=2, size=4)
        >>> fusion(torch.randn(8, 10, 16), torch.randn(8, 10, 2)).shape
        torch.Size([8, 10, 20])
    """

    def __init__(self, token_dim: int, context_dim: int, size: int | None = None) -> None:
        super().__init__()
        check_range(COUNT, size=size)
        size = size or context_dim
        self.output_dim = token_dim + size
        self.scale = math.sqrt(size)
        self.embedding = nn.Linear(context_dim, size)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Fuses tokens (B, T', token_dim) and context (B, T', D) to (B, T', token_dim + d_b)."""
        return torch.cat([tokens, self.embedding(context) * self.scale], dim=-1)


class Additive(Fusion):
    """Adds embedded behavior to the neural token: E(x) sqrt(N) + E_b(b) sqrt(N).

    Args:
        token_dim: width of a neural token.
        context_dim: D, number of privileged channels.
    """

    def __init__(self, token_dim: int, context_dim: int) -> None:
        super().__init__()
        self.output_dim, self.scale = token_dim, math.sqrt(token_dim)
        self.embedding = nn.Linear(context_dim, token_dim)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Fuses tokens (B, T', token_dim) and context (B, T', D) to (B, T', token_dim)."""
        fused: Tensor = tokens + self.embedding(context) * self.scale
        return fused


class FiLM(Fusion):
    """Scales and shifts the neural token by behavior (Perez et al., 2018): (1 + G b) E(x) + (B b + c).

    G is initialized to zero, so that the initial scale is 1.

    Args:
        token_dim: width of a neural token.
        context_dim: D, number of privileged channels.

    Example:
        >>> FiLM(token_dim=16, context_dim=2)(torch.randn(8, 10, 16), torch.randn(8, 10, 2)).shape
        torch.Size([8, 10, 16])
    """

    def __init__(self, token_dim: int, context_dim: int) -> None:
        super().__init__()
        self.output_dim = token_dim
        self.scale, self.shift = nn.Linear(context_dim, token_dim, bias=False), nn.Linear(context_dim, token_dim)
        nn.init.zeros_(self.scale.weight)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Fuses tokens (B, T', token_dim) and context (B, T', D) to (B, T', token_dim)."""
        fused: Tensor = tokens * (1 + self.scale(context)) + self.shift(context)
        return fused


class CrossAttention(Fusion):
    """Attention of neural tokens to the behavior of all bins: x + W_o attention(Q, K, V).

    Q = W_q (norm(x) + P), K = W_k (E_b(b) + P), V = W_v E_b(b). The sinusoidal positions P let a token attend to
    behavior by its time.

    Args:
        token_dim: width of a neural token.
        context_dim: D, number of privileged channels.
        num_heads: number of heads; need not divide `token_dim`.

    Example:
        >>> CrossAttention(token_dim=16, context_dim=2)(torch.randn(8, 10, 16), torch.randn(8, 10, 2)).shape
        torch.Size([8, 10, 16])
    """

    def __init__(self, token_dim: int, context_dim: int, num_heads: int = 2) -> None:
        super().__init__()
        check_range(COUNT, num_heads=num_heads)
        self.output_dim, self.num_heads = token_dim, num_heads
        inner_dim = num_heads * -(-token_dim // num_heads)
        self.norm, self.embedding = nn.LayerNorm(token_dim), nn.Linear(context_dim, token_dim)
        self.query, self.key, self.value = (nn.Linear(token_dim, inner_dim) for _ in range(3))
        self.out_proj = nn.Linear(inner_dim, token_dim)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Fuses tokens (B, T', token_dim) and context (B, T', D) to (B, T', token_dim)."""
        positions = sinusoids(tokens.shape[1], self.output_dim, tokens.device).to(tokens.dtype)
        behavior = self.embedding(context)
        projections = self.query(self.norm(tokens) + positions), self.key(behavior + positions), self.value(behavior)
        q, k, v = (projection.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for projection in projections)
        attended = F.scaled_dot_product_attention(q, k, v)
        fused: Tensor = tokens + self.out_proj(attended.transpose(1, 2).flatten(-2))
        return fused
