"""The Spatiotemporal Neural Data Transformer (Le & Shlizerman, 2022, arXiv 2206.04727)."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.models.base import Dims, Encoding
from blend_pl.models.layers.attention import AttentionWindow, context_bins
from blend_pl.models.layers.contrastive import ContrastiveLoss
from blend_pl.models.layers.dropout import FastDropout
from blend_pl.models.layers.embedding import LearnedPositions, LinearEmbedding, TokenEmbedding
from blend_pl.models.layers.fusion import Concatenation, Fusion
from blend_pl.models.layers.input_embedding import InputEmbedding
from blend_pl.models.layers.padded_linear import PaddedLinear
from blend_pl.models.layers.readout import log_rate_readout
from blend_pl.models.layers.transformer import FeedForward, TransformerLayer
from blend_pl.utils.checks import COUNT, DROPOUT, check_range


class SpatialAttention(nn.Module):
    """Attention weights between the columns of the spatial stream, for example neurons.

    The layer has no values: the weights mix the columns of the temporal stream. They take
    B x num_heads x d_model x d_model numbers per layer, independent of the number of bins: 17 MB for 64 trials, 2 heads
    and 182 neurons.

    Args:
        bins: T', length of a column; projected to the next multiple of `num_heads`.
        num_heads: number of heads.
    """

    def __init__(self, bins: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qk = PaddedLinear(bins, 2 * num_heads * -(-bins // num_heads))
        nn.init.xavier_uniform_(self.qk.weight)
        nn.init.zeros_(self.qk.bias)

    def forward(self, spatial_tokens: Tensor) -> Tensor:
        """Maps columns (B, d_model, T') to weights (B, d_model, d_model), averaged over heads; rows sum to 1."""
        q, k = self.qk(spatial_tokens).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights: Tensor = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1).mean(1)
        return weights


class SpatiotemporalLayer(nn.Module):
    """Layer of NDT over bins, followed by attention between columns (Le & Shlizerman, 2022, section 3.2).

    Z = temporal(X); Z = Z + drop((A norm(Z)^T)^T) with A = spatial(norm(columns)); Z = feed-forward(Z).

    Args:
        d_model: width of a token.
        bins: T'.
        num_heads: number of attention heads of each stream.
        dim_feedforward: hidden units of each feed-forward block.
        dropout: dropout in the layer, except of the spatial weights.
    """

    def __init__(self, d_model: int, bins: int, num_heads: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.temporal = TransformerLayer(d_model, num_heads, dim_feedforward, dropout)
        self.norm_spatial, self.spatial = nn.LayerNorm(bins), SpatialAttention(bins, num_heads)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = FastDropout(dropout)
        self.feedforward = FeedForward(d_model, dim_feedforward, dropout)

    def forward(self, tokens: Tensor, spatial_tokens: Tensor, window: AttentionWindow) -> Tensor:
        """Maps tokens (B, T', d_model) and columns (B, d_model, T') to tokens (B, T', d_model)."""
        tokens = self.temporal(tokens, window)
        weights = self.spatial(self.norm_spatial(spatial_tokens))
        tokens = tokens + self.dropout(self.norm(tokens) @ weights.transpose(1, 2))
        transformed: Tensor = self.feedforward(tokens)
        return transformed


class STNDT(nn.Module):
    """NDT with a second, spatial stream of one token per neuron (Le & Shlizerman, 2022, section 3).

    The input of the temporal stream is E(x) sqrt(N) + P, of the spatial stream E'(x^T) sqrt(T') + P'; after the first
    layer, the spatial tokens are the transposed output of the previous layer. Attention between spatial tokens mixes
    the columns of the temporal tokens. Behavior is fused into both streams with the same weights; `Concatenation` adds
    tokens to the spatial stream. The attention window limits the temporal attention only: the spatial weights depend on
    the whole trial, so that each bin depends on all others.

    The spatial weights take B x num_heads x d_model^2 numbers per layer.

    Args:
        dims: sizes.
        num_layers: number of layers.
        num_heads: number of attention heads; need not divide the width of a token or T'.
        dim_feedforward: hidden units of the feed-forward blocks.
        dropout: dropout in the layers.
        dropout_embedding: dropout of the input of the first layer.
        dropout_rates: dropout before the read-out.
        context_forward: number of later bins that a bin attends to; negative for no limit.
        context_backward: number of earlier bins that a bin attends to; negative for no limit.
        fixup: scale the initial weights of the temporal layers as in T-Fixup.
        contrast: contrastive loss of the embedded trials, before positions and behavior; returned as the penalty.
        embedding: builds an embedding of counts that keeps the width, from N for bins and from T' for neurons.
        positions: builds position vectors, from (T', d_model) for bins and from (d_model, T') for neurons.
        fusion: builds the fusion with context from (N, D); used only if `dims.context` > 0.
        context_forward_ms: replaces `context_forward` by a time, which is the same for all bin widths.
        context_backward_ms: replaces `context_backward` by a time.

    Raises:
        ConfigError: the embedding changes the width, or has no parameters while the contrastive loss is enabled.

    Example:
        >>> import torch
        >>> from blend_pl.models import STNDT, Dims
        >>> model = STNDT(Dims(channels=6, neurons=8, observed_bins=10, bins=12), num_layers=2)
        >>> encoding = model(torch.poisson(torch.ones(4, 10, 6)))
        >>> encoding.prediction.shape, encoding.penalty.shape
        (torch.Size([4, 12, 8]), torch.Size([4]))
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
        contrast: ContrastiveLoss = ContrastiveLoss(),  # noqa: B008
        embedding: Callable[[int], TokenEmbedding] = LinearEmbedding,
        positions: Callable[[int, int], nn.Module] = LearnedPositions,
        fusion: Callable[[int, int], Fusion] = Concatenation,
        context_forward_ms: float | None = None,
        context_backward_ms: float | None = None,
    ) -> None:
        super().__init__()
        check_range(COUNT, num_layers=num_layers, num_heads=num_heads, dim_feedforward=dim_feedforward)
        check_range(DROPOUT, dropout=dropout, dropout_embedding=dropout_embedding, dropout_rates=dropout_rates)
        self.input_embedding, self.embedding_spatial = InputEmbedding(dims, embedding, fusion), embedding(dims.bins)
        if (self.input_embedding.embedding.d_model, self.embedding_spatial.d_model) != (dims.neurons, dims.bins):
            raise ConfigError("STNDT needs tokens of width N; choose an embedding without d_model or size")
        if contrast.weight and not [*self.embedding_spatial.parameters()]:
            raise ConfigError(
                "the contrastive loss of STNDT trains the embedding; use LinearEmbedding or set contrast.weight to 0"
            )
        self.contrast, self.scale_spatial = contrast, math.sqrt(dims.bins)
        d_model = self.input_embedding.d_model
        self.positions, self.positions_spatial = positions(dims.bins, d_model), positions(d_model, dims.bins)
        self.dropout_embedding, self.dropout_rates = FastDropout(dropout_embedding), FastDropout(dropout_rates)
        stack = [
            SpatiotemporalLayer(d_model, dims.bins, num_heads, dim_feedforward, dropout) for _ in range(num_layers)
        ]
        self.norm = nn.LayerNorm(d_model)
        self.readout = log_rate_readout(d_model, dims.neurons)
        self.window = AttentionWindow(
            dims.bins,
            context_bins(context_forward, context_forward_ms, dims.bin_ms),
            context_bins(context_backward, context_backward_ms, dims.bin_ms),
        )
        if fixup:
            for layer in stack:
                layer.temporal.scale_fixup(num_layers)
        self.layers = nn.ModuleList(stack)

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        """Maps counts (B, T, C) and context (B, T', D), if `dims.context` > 0, to log expected counts (B, T', N)."""
        counts = self.input_embedding.pad_counts(observed)
        tokens = self.input_embedding.fuse(self.input_embedding.embed(counts), context)
        spatial_tokens = self._embed_spatial(self.input_embedding.fuse(counts, context))
        tokens = self.dropout_embedding(tokens + self.positions())
        spatial_tokens = self.dropout_embedding(spatial_tokens + self.positions_spatial())
        features = []
        for layer in self.layers:
            tokens = layer(tokens, spatial_tokens, self.window)
            spatial_tokens = tokens.transpose(1, 2)
            features.append(tokens)
        latents = self.norm(tokens)
        return Encoding(self.readout(self.dropout_rates(latents)), features, latents, self._penalty(observed))

    def _embed_spatial(self, counts: Tensor) -> Tensor:
        tokens: Tensor = self.embedding_spatial(counts.transpose(1, 2)) * self.scale_spatial
        return tokens

    def _penalty(self, observed: Tensor) -> Tensor | None:
        if not (self.training and self.contrast.weight):
            return None
        views = self.input_embedding.pad_counts(self.contrast.augment(observed))
        return self.contrast.weighted_loss(self.input_embedding.embed(views), self._embed_spatial(views))
