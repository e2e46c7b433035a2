"""From a trial to one token a bin: embedded counts, and behaviour where a model is built for it."""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models.base import Dims
from blend_pl.models.layers.embedding import IdentityEmbedding, TokenEmbedding
from blend_pl.models.layers.fusion import Concatenation, Fusion


class InputEmbedding(nn.Module):
    """E(x) sqrt(d) over all T' bins and N neurons, then the fusion with context.

    Held-out neurons and forward bins enter as zeros: the input is (B, T', N) whose observed block alone is filled.

    Args:
        dims: sizes.
        embedding: from counts to tokens, built from N.
        fusion: how context joins the tokens, built from (token width, D); used only where `dims.context` > 0.
    """

    def __init__(
        self,
        dims: Dims,
        embedding: Callable[[int], TokenEmbedding] = IdentityEmbedding,
        fusion: Callable[[int, int], Fusion] = Concatenation,
    ) -> None:
        super().__init__()
        self.pad = (0, dims.neurons - dims.channels, 0, dims.bins - dims.observed_bins)
        self.embedding = embedding(dims.neurons)
        self.scale = math.sqrt(self.embedding.d_model)
        self.fusion = fusion(self.embedding.d_model, dims.context) if dims.context else None
        self.d_model = self.fusion.output_dim if self.fusion else self.embedding.d_model

    def pad_counts(self, observed: Tensor) -> Tensor:
        """Counts (B, T, C) -> (B, T', N), zero where nothing is observed."""
        return F.pad(observed, self.pad)

    def embed(self, counts: Tensor) -> Tensor:
        """Counts (B, T', N) -> neural tokens (B, T', d)."""
        tokens: Tensor = self.embedding(counts) * self.scale
        return tokens

    def fuse(self, tokens: Tensor, context: Tensor | None) -> Tensor:
        """Neural tokens (B, T', d), and context (B, T', D) if built for it -> tokens (B, T', width)."""
        return tokens if self.fusion is None else self.fusion(tokens, context)

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Tensor:
        """Counts (B, T, C), and context (B, T', D) if built for it -> tokens (B, T', width)."""
        return self.fuse(self.embed(self.pad_counts(observed)), context)
