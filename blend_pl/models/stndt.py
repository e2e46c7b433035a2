"""The Spatiotemporal Neural Data Transformer (Le & Shlizerman, 2022, arXiv 2206.04727)."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.models.base import Dims, Encoding
from blend_pl.models.layers.attention import Window
from blend_pl.models.layers.contrast import Contrast
from blend_pl.models.layers.dropout import Dropout
from blend_pl.models.layers.embedding import LearnedPositions, Linear, TokenEmbedding
from blend_pl.models.layers.fusion import Concatenation, Fusion
from blend_pl.models.layers.padded_linear import AlignedLinear
from blend_pl.models.layers.tokens import Tokens, log_rate_readout
from blend_pl.models.layers.transformer import FeedForward, TransformerLayer


class SpatialAttention(nn.Module):
    """Which neurons look at which.

    Values are never formed: the weights re-mix the other stream. They take B x heads x width x width numbers a layer,
    whatever the number of bins: 17 MB for 64 trials, 2 heads and 182 neurons.

    Args:
        bins: T', length of a column. Where the heads do not divide it, it is projected to the next length they do.
        heads: number of heads.
    """

    def __init__(self, bins: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qk = AlignedLinear(bins, 2 * heads * -(-bins // heads))
        nn.init.xavier_uniform_(self.qk.weight)
        nn.init.zeros_(self.qk.bias)

    def forward(self, columns: Tensor) -> Tensor:
        """Columns (B, width, T') -> weights (B, width, width), rows adding to 1, averaged over heads."""
        q, k = self.qk(columns).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1).mean(1)


class SpatiotemporalLayer(nn.Module):
    """NDT's layer over bins, then its result re-mixed by attention between columns (section 3.2).

    Z = temporal(X); Z = Z + drop((A norm(Z)^T)^T) with A = spatial(norm(columns)); Z = feed-forward(Z).

    Args:
        width: width of a token.
        bins: T'.
        heads: attention heads of each stream.
        feedforward: hidden units of each feed-forward part.
        dropout: dropout everywhere in the layer, but of the spatial weights.
    """

    def __init__(self, width: int, bins: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.temporal = TransformerLayer(width, heads, feedforward, dropout)
        self.norm_spatial, self.spatial = nn.LayerNorm(bins), SpatialAttention(bins, heads)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.feedforward = FeedForward(width, feedforward, dropout)

    def forward(self, tokens: Tensor, columns: Tensor, window: Window) -> Tensor:
        """Tokens (B, T', width), columns (B, width, T') and where bins may look -> (B, T', width)."""
        tokens = self.temporal(tokens, window)
        weights = self.spatial(self.norm_spatial(columns))
        tokens = tokens + self.dropout(self.norm(tokens) @ weights.transpose(1, 2))
        return self.feedforward(tokens)


class STNDT(nn.Module):
    """NDT with a second stream whose tokens are neurons and whose attention re-mixes the first.

    The streams enter as E(x) sqrt(N) + P over bins and E'(x^T) sqrt(T') + P' over neurons; after the first layer, the
    second is the layer before transposed. Behaviour is fused into both by the same weights; a fusion that lays it
    beside the neurons adds tokens to the second. The window limits the attention over bins alone: the weights between
    neurons come from whole trials, so through them every bin hears of every other.

    The spatial weights take B x heads x width^2 numbers a layer.

    Args:
        dims: sizes.
        layers: number of layers.
        heads: attention heads; need not divide the width or T'.
        feedforward: hidden units of the feed-forward parts.
        dropout: dropout in the layers.
        dropout_embedding: dropout of what enters the first layer.
        dropout_rates: dropout before the read-out.
        context_forward: bins that temporal attention may look ahead; negative for no limit.
        context_backward: bins that temporal attention may look back; negative for no limit.
        fixup: T-Fixup scaling of the temporal parts' initial weights.
        contrast: the contrastive term on the embedded trials, before positions and behaviour; the penalty in training.
        embedding: from counts to tokens as wide as what it is built from, N for bins and T' for neurons.
        positions: position vectors, built from (T', width) for bins and (width, T') for neurons.
        fusion: how context joins the tokens, built from (N, D); used only where `dims.context` > 0.

    Raises:
        ConfigError: the embedding changes the width, or learns nothing that the contrastive term could train.
    """

    def __init__(
        self,
        dims: Dims,
        layers: int = 4,
        heads: int = 2,
        feedforward: int = 128,
        dropout: float = 0.1,
        dropout_embedding: float = 0.2,
        dropout_rates: float = 0.2,
        context_forward: int = 4,
        context_backward: int = 8,
        fixup: bool = True,
        contrast: Contrast = Contrast(),  # noqa: B008
        embedding: Callable[[int], TokenEmbedding] = Linear,
        positions: Callable[[int, int], nn.Module] = LearnedPositions,
        fusion: Callable[[int, int], Fusion] = Concatenation,
    ) -> None:
        super().__init__()
        self.tokens, self.embedding_spatial = Tokens(dims, embedding, fusion), embedding(dims.bins)
        if (self.tokens.embedding.width, self.embedding_spatial.width) != (dims.neurons, dims.bins):
            raise ConfigError("STNDT needs tokens with one entry a neuron; take an embedding without a width or size")
        if contrast.weight and not [*self.embedding_spatial.parameters()]:
            raise ConfigError("STNDT's contrastive term trains the embedding; take Linear, or set contrast.weight to 0")
        self.contrast, self.scale_spatial = contrast, math.sqrt(dims.bins)
        width = self.tokens.width
        self.positions, self.positions_spatial = positions(dims.bins, width), positions(width, dims.bins)
        self.dropout_embedding, self.dropout_rates = Dropout(dropout_embedding), Dropout(dropout_rates)
        stack = [SpatiotemporalLayer(width, dims.bins, heads, feedforward, dropout) for _ in range(layers)]
        self.norm = nn.LayerNorm(width)
        self.readout = log_rate_readout(width, dims.neurons)
        self.window = Window(dims.bins, context_forward, context_backward)
        if fixup:
            for layer in stack:
                layer.temporal.scale_fixup(layers)
        self.layers = nn.ModuleList(stack)

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        """Counts (B, T, C), and context (B, T', D) if built for it -> encoding of (B, T', N) log expected counts."""
        counts = self.tokens.counts(observed)
        tokens = self.tokens.fuse(self.tokens.embed(counts), context)
        columns = self._embed_columns(self.tokens.fuse(counts, context))
        tokens = self.dropout_embedding(tokens + self.positions())
        columns = self.dropout_embedding(columns + self.positions_spatial())
        features = []
        for layer in self.layers:
            tokens = layer(tokens, columns, self.window)
            columns = tokens.transpose(1, 2)
            features.append(tokens)
        latents = self.norm(tokens)
        return Encoding(self.readout(self.dropout_rates(latents)), features, latents, self._penalty(observed))

    def _embed_columns(self, counts: Tensor) -> Tensor:
        return self.embedding_spatial(counts.transpose(1, 2)) * self.scale_spatial

    def _penalty(self, observed: Tensor) -> Tensor | None:
        if not (self.training and self.contrast.weight):
            return None
        views = self.tokens.counts(self.contrast.views(observed))
        return self.contrast.term(self.tokens.embed(views), self._embed_columns(views))
