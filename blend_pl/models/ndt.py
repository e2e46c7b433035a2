"""The Neural Data Transformer (Ye & Pandarinath, 2021) with optional privileged context."""

from collections.abc import Callable

from torch import Tensor, nn

from blend_pl.models.base import Dims, Encoding
from blend_pl.models.layers.attention import AttentionWindow, context_bins
from blend_pl.models.layers.dropout import FastDropout
from blend_pl.models.layers.embedding import IdentityEmbedding, LearnedPositions, TokenEmbedding
from blend_pl.models.layers.fusion import Concatenation, Fusion
from blend_pl.models.layers.input_embedding import InputEmbedding
from blend_pl.models.layers.readout import log_rate_readout
from blend_pl.models.layers.transformer import TransformerLayer
from blend_pl.utils.checks import COUNT, DROPOUT, check_range


class NDT(nn.Module):
    """Transformer encoder over time bins, from spike counts to log-rates (Ye & Pandarinath, 2021).

    Counts of held-out neurons and forward bins are zero in the input (`InputEmbedding`). The input of the first layer
    is h0 = dropout(E(x) sqrt(d) + P); pre-norm layers, a final norm, dropout and a linear read-out follow.

    Args:
        dims: sizes.
        num_layers: number of layers.
        num_heads: number of attention heads; need not divide the width of a token.
        dim_feedforward: hidden units of the feed-forward blocks.
        dropout: dropout in the layers.
        dropout_embedding: dropout of h0.
        dropout_rates: dropout before the read-out.
        context_forward: number of later bins that a bin attends to; negative for no limit.
        context_backward: number of earlier bins that a bin attends to; negative for no limit.
        fixup: scale the initial weights as in T-Fixup.
        embedding: builds the embedding of counts from N.
        positions: builds the position vectors from (T', d_model).
        fusion: builds the fusion with context from (token width, D); used only if `dims.context` > 0.
        context_forward_ms: replaces `context_forward` by a time, which is the same for all bin widths.
        context_backward_ms: replaces `context_backward` by a time.

    Example:
        >>> import torch
        >>> from blend_pl.models import NDT, Dims
        >>> model = NDT(Dims(channels=6, neurons=8, observed_bins=10, bins=12), num_layers=2)
        >>> encoding = model(torch.poisson(torch.ones(4, 10, 6)))
        >>> encoding.prediction.shape, len(encoding.features)
        (torch.Size([4, 12, 8]), 2)
    """

    def __init__(
        self,
        dims: Dims,
        num_layers: int = 4,
        num_heads: int = 2,
        dim_feedforward: int = 128,
        dropout: float = 0.1,
        dropout_embedding: float = 0.2,
        dropout_rates: float = 0.2,
        context_forward: int = 4,
        context_backward: int = 8,
        fixup: bool = True,
        embedding: Callable[[int], TokenEmbedding] = IdentityEmbedding,
        positions: Callable[[int, int], nn.Module] = LearnedPositions,
        fusion: Callable[[int, int], Fusion] = Concatenation,
        context_forward_ms: float | None = None,
        context_backward_ms: float | None = None,
    ) -> None:
        super().__init__()
        check_range(COUNT, num_layers=num_layers, num_heads=num_heads, dim_feedforward=dim_feedforward)
        check_range(DROPOUT, dropout=dropout, dropout_embedding=dropout_embedding, dropout_rates=dropout_rates)
        self.input_embedding = InputEmbedding(dims, embedding, fusion)
        d_model = self.input_embedding.d_model
        self.positions = positions(dims.bins, d_model)
        self.dropout_embedding, self.dropout_rates = FastDropout(dropout_embedding), FastDropout(dropout_rates)
        stack = [TransformerLayer(d_model, num_heads, dim_feedforward, dropout) for _ in range(num_layers)]
        self.norm = nn.LayerNorm(d_model)
        self.readout = log_rate_readout(d_model, dims.neurons)
        self.window = AttentionWindow(
            dims.bins,
            context_bins(context_forward, context_forward_ms, dims.bin_ms),
            context_bins(context_backward, context_backward_ms, dims.bin_ms),
        )
        if fixup:
            for layer in stack:
                layer.scale_fixup(num_layers)
        self.layers = nn.ModuleList(stack)

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        """Maps counts (B, T, C) and context (B, T', D), if `dims.context` > 0, to log expected counts (B, T', N)."""
        tokens = self.dropout_embedding(self.input_embedding(observed, context) + self.positions())
        features = []
        for layer in self.layers:
            tokens = layer(tokens, self.window)
            features.append(tokens)
        latents = self.norm(tokens)
        return Encoding(self.readout(self.dropout_rates(latents)), features, latents)
