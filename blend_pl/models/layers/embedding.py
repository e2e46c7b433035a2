"""From counts to tokens: one token a bin."""

import torch
from torch import Tensor, nn


class TokenEmbedding(nn.Module):
    """Base class of what turns counts (B, T, N) into tokens (B, T, width)."""

    d_model: int


class IdentityEmbedding(TokenEmbedding):
    """The counts themselves are the token (BLEND's and NDT's setting for MC_Maze).

    Args:
        neurons: N.
    """

    def __init__(self, neurons: int) -> None:
        super().__init__()
        self.d_model = neurons

    def forward(self, counts: Tensor) -> Tensor:
        """(B, T, N) -> (B, T, N)."""
        return counts


class LinearEmbedding(TokenEmbedding):
    """A learned mixture of the neurons.

    Args:
        neurons: N.
        d_model: width of a token; None for N.
    """

    def __init__(self, neurons: int, d_model: int | None = None) -> None:
        super().__init__()
        self.d_model = d_model or neurons
        self.linear = nn.Linear(neurons, self.d_model)

    def forward(self, counts: Tensor) -> Tensor:
        """(B, T, N) -> (B, T, width)."""
        tokens: Tensor = self.linear(counts)
        return tokens


class CountEmbedding(TokenEmbedding):
    """A learned vector for every count, shared over neurons and laid side by side (NDT's per-neuron embedding).

    Args:
        neurons: N.
        size: length of one neuron's vector.
        max_count: larger counts are read as this one.
    """

    def __init__(self, neurons: int, size: int = 2, max_count: int = 5) -> None:
        super().__init__()
        self.d_model = neurons * size
        self.max_count = max_count
        self.embedding = nn.Embedding(max_count + 2, size)

    def forward(self, counts: Tensor) -> Tensor:
        """(B, T, N) -> (B, T, N * size)."""
        tokens: Tensor = self.embedding(counts.long().clamp(0, self.max_count)).flatten(-2)
        return tokens


class LearnedPositions(nn.Module):
    """A learned vector for every bin.

    Args:
        bins: T'.
        d_model: width of a token.
        std: standard deviation of the initial vectors. NDT starts at 1; where a token's entries are smaller than that,
            so should these be, or the positions drown the counts.
    """

    def __init__(self, bins: int, d_model: int, std: float = 1.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(bins, d_model)
        nn.init.normal_(self.embedding.weight, std=std)

    def forward(self) -> Tensor:
        """(T', width)."""
        return self.embedding.weight


def sinusoids(bins: int, d_model: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of every bin (Vaswani et al., 2017, section 3.5): (T', width), for any width, odd ones too."""
    exponents = torch.arange(0, d_model, 2, device=device) / d_model
    angles = torch.arange(bins, device=device)[:, None] * 10_000.0**-exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :d_model]


class SinusoidalPositions(nn.Module):
    """Fixed sines and cosines, see `sinusoids`.

    Args:
        bins: T'.
        d_model: width of a token.
    """

    table: Tensor

    def __init__(self, bins: int, d_model: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(bins, d_model), persistent=False)

    def forward(self) -> Tensor:
        """(T', width)."""
        return self.table
