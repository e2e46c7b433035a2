"""Embeddings of spike counts, one token per bin, and position embeddings."""

import torch
from torch import Tensor, nn

from blend_pl.utils.checks import COUNT, NON_NEGATIVE, check_range


class TokenEmbedding(nn.Module):
    """Base class of embeddings of counts (B, T, N) as tokens (B, T, d_model)."""

    d_model: int
    """Width of a token."""


class IdentityEmbedding(TokenEmbedding):
    """Uses the counts of a bin as its token (the setting of BLEND and NDT for MC_Maze).

    Args:
        neurons: N, number of neurons.
    """

    def __init__(self, neurons: int) -> None:
        super().__init__()
        self.d_model = neurons

    def forward(self, counts: Tensor) -> Tensor:
        """Returns the counts (B, T, N)."""
        return counts


class LinearEmbedding(TokenEmbedding):
    """Linear map of the counts of a bin.

    Args:
        neurons: N, number of neurons.
        d_model: width of a token; None for N.
    """

    def __init__(self, neurons: int, d_model: int | None = None) -> None:
        super().__init__()
        check_range(COUNT, d_model=d_model)
        self.d_model = d_model or neurons
        self.linear = nn.Linear(neurons, self.d_model)

    def forward(self, counts: Tensor) -> Tensor:
        """Maps counts (B, T, N) to tokens (B, T, d_model)."""
        tokens: Tensor = self.linear(counts)
        return tokens


class CountEmbedding(TokenEmbedding):
    """Learned vector for each count, shared by neurons and concatenated over them (per-neuron embedding of NDT).

    Args:
        neurons: N, number of neurons.
        size: length of the vector of a neuron.
        max_count: counts are clipped to this value.
    """

    def __init__(self, neurons: int, size: int = 2, max_count: int = 5) -> None:
        super().__init__()
        check_range(COUNT, size=size, max_count=max_count)
        self.d_model = neurons * size
        self.max_count = max_count
        self.embedding = nn.Embedding(max_count + 2, size)

    def forward(self, counts: Tensor) -> Tensor:
        """Maps counts (B, T, N) to tokens (B, T, N * size)."""
        tokens: Tensor = self.embedding(counts.long().clamp(0, self.max_count)).flatten(-2)
        return tokens


class LearnedPositions(nn.Module):
    """Learned vector for each bin.

    Args:
        bins: T', number of bins.
        d_model: width of a token.
        std: standard deviation of the initial vectors. NDT uses 1; choose a smaller value if the entries of a token are
            smaller, because large position vectors mask the counts.
    """

    def __init__(self, bins: int, d_model: int, std: float = 1.0) -> None:
        super().__init__()
        check_range(NON_NEGATIVE, std=std)
        self.embedding = nn.Embedding(bins, d_model)
        nn.init.normal_(self.embedding.weight, std=std)

    def forward(self) -> Tensor:
        """Returns position vectors (T', d_model)."""
        return self.embedding.weight


def sinusoids(bins: int, d_model: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of bins (Vaswani et al., 2017, section 3.5): (T', d_model); `d_model` may be odd."""
    exponents = torch.arange(0, d_model, 2, device=device) / d_model
    angles = torch.arange(bins, device=device)[:, None] * 10_000.0**-exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :d_model]


class SinusoidalPositions(nn.Module):
    """Fixed sines and cosines; see `sinusoids`.

    Args:
        bins: T', number of bins.
        d_model: width of a token.
    """

    table: Tensor

    def __init__(self, bins: int, d_model: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(bins, d_model), persistent=False)

    def forward(self) -> Tensor:
        """Returns position vectors (T', d_model)."""
        return self.table
