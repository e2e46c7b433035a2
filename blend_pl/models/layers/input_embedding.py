"""Input tokens of NDT and STNDT: embedded counts, fused with privileged context."""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models.base import Dims
from blend_pl.models.layers.embedding import IdentityEmbedding, TokenEmbedding
from blend_pl.models.layers.fusion import Concatenation, Fusion


class InputEmbedding(nn.Module):
    """E(x) sqrt(d) over all T' bins and N neurons, followed by the fusion with context.

    The input is padded to (B, T', N): counts of held-out neurons and forward bins are zero.

    Args:
        dims: sizes.
        embedding: builds the embedding of counts from N.
        fusion: builds the fusion with context from (token width, D); used only if `dims.context` > 0.
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
        """Pads counts (B, T, C) with zeros to (B, T', N)."""
        return F.pad(observed, self.pad)

    def embed(self, counts: Tensor) -> Tensor:
        """Maps counts (B, T', N) to neural tokens (B, T', d)."""
        tokens: Tensor = self.embedding(counts) * self.scale
        return tokens

    def fuse(self, tokens: Tensor, context: Tensor | None) -> Tensor:
        """Fuses neural tokens (B, T', d) with context (B, T', D), if `dims.context` > 0, to (B, T', d_model)."""
        return tokens if self.fusion is None else self.fusion(tokens, context)

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Tensor:
        """Maps counts (B, T, C) and context (B, T', D), if `dims.context` > 0, to tokens (B, T', d_model)."""
        return self.fuse(self.embed(self.pad_counts(observed)), context)
