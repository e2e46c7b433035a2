"""The Spatiotemporal Neural Data Transformer (Le & Shlizerman, 2022, arXiv 2206.04727)."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from blend_pl.masking import Masking
from blend_pl.models.contract import Dims, Encoding
from blend_pl.models.contrast import Contrast
from blend_pl.models.embedding import Identity, LearnedPositions, TokenEmbedding
from blend_pl.models.fusion import Concatenation, Fusion
from blend_pl.models.tokens import Tokens, log_rate_readout
from blend_pl.models.transformer import FeedForward, TransformerLayer, attention_window


class SpatialAttention(nn.Module):
    """Which columns of the temporal tokens, neurons where nothing embeds them, look at which.

    Values are never formed: the weights re-mix the other stream. They take B x heads x width x width numbers a layer,
    whatever the number of bins: 17 MB for 64 trials, 2 heads and 182 neurons.

    Args:
        bins: T', length of a column. Where the heads do not divide it, it is projected to the next length they do.
        heads: number of heads.
    """

    def __init__(self, bins: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qk = nn.Linear(bins, 2 * heads * -(-bins // heads))
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
        self.dropout = nn.Dropout(dropout)
        self.feedforward = FeedForward(width, feedforward, dropout)

    def forward(self, tokens: Tensor, columns: Tensor, window: Tensor | None) -> Tensor:
        """Tokens (B, T', width), columns (B, width, T') and the allowed pairs of bins (T', T') -> (B, T', width)."""
        tokens = self.temporal(tokens, window)
        weights = self.spatial(self.norm_spatial(columns))
        tokens = tokens + self.dropout(self.norm(tokens) @ weights.transpose(1, 2))
        return self.feedforward(tokens)


class STNDT(nn.Module):
    """NDT with a second stream whose tokens are neurons and whose attention re-mixes the first.

    The first layer's columns are the tokens transposed, scaled by sqrt(T') instead of sqrt(d), with positions of their
    own; later ones are the layer before transposed. A teacher's behaviour is further columns or part of them, as its
    fusion says. The window limits the attention over bins alone: weights between columns come from whole trials, so
    with spatial attention every bin hears of every other.

    The spatial weights take B x heads x width^2 numbers a layer, the temporal ones are never stored.

    Args:
        dims: sizes.
        layers: number of layers.
        heads: attention heads; need not divide the width or T'.
        feedforward: hidden units of the feed-forward parts.
        dropout: dropout in the layers.
        dropout_embedding: dropout of the tokens and columns that enter the first layer.
        dropout_rates: dropout before the read-out.
        context_forward: bins that temporal attention may look ahead; negative for no limit.
        context_backward: bins that temporal attention may look back; negative for no limit.
        fixup: T-Fixup scaling of the temporal parts' initial weights.
        contrast: weight of the contrastive term, the penalty in training; 0 for none.
        temperature: of the contrastive term.
        corruption: what distinguishes the two views of the contrastive term, of the counts that the model is given.
        embedding: from counts to tokens, built from N.
        positions: position vectors, built from (T', width) for bins and (width, T') for columns.
        fusion: how context joins the tokens, built from (token width, D); used only where `dims.context` > 0.
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
        contrast: float = 0.1,
        temperature: float = 0.07,
        corruption: Masking = Masking(0.05, "full", zero_ratio=0.5, random_ratio=0.5),  # noqa: B008
        embedding: Callable[[int], TokenEmbedding] = Identity,
        positions: Callable[[int, int], nn.Module] = LearnedPositions,
        fusion: Callable[[int, int], Fusion] = Concatenation,
    ) -> None:
        super().__init__()
        self.tokens = Tokens(dims, embedding, fusion)
        width = self.tokens.width
        self.positions, self.positions_spatial = positions(dims.bins, width), positions(width, dims.bins)
        self.scale_spatial = math.sqrt(dims.bins) / self.tokens.scale
        self.dropout_embedding, self.dropout_rates = nn.Dropout(dropout_embedding), nn.Dropout(dropout_rates)
        stack = [SpatiotemporalLayer(width, dims.bins, heads, feedforward, dropout) for _ in range(layers)]
        self.norm = nn.LayerNorm(width)
        self.readout = log_rate_readout(width, dims.neurons)
        self.window: Tensor | None
        self.register_buffer("window", attention_window(dims.bins, context_forward, context_backward), persistent=False)
        if fixup:
            for layer in stack:
                layer.temporal.scale_fixup(layers)
        self.layers = nn.ModuleList(stack)
        sizes = self.tokens.embedding.width, dims.bins
        self.contrast = Contrast(*sizes, contrast, temperature, corruption) if contrast else None

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        """Counts (B, T, C), and context (B, T', D) if built for it -> encoding of (B, T', N) log expected counts."""
        tokens = self.tokens(observed, context)
        columns = tokens.transpose(1, 2) * self.scale_spatial
        columns = self.dropout_embedding(columns + self.positions_spatial())
        tokens = self.dropout_embedding(tokens + self.positions())
        features: list[Tensor] = []
        for layer in self.layers:
            tokens = layer(tokens, features[-1].transpose(1, 2) if features else columns, self.window)
            features.append(tokens)
        latents = self.norm(tokens)
        penalty = self.contrast(observed, self.tokens.embed) if self.contrast and self.training else None
        return Encoding(self.readout(self.dropout_rates(latents)), features, latents, penalty)
