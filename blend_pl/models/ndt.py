"""The Neural Data Transformer (Ye & Pandarinath, 2021), with room for privileged context."""

from collections.abc import Callable

from torch import Tensor, nn

from blend_pl.models.base import Dims, Encoding
from blend_pl.models.layers.attention import AttentionWindow
from blend_pl.models.layers.dropout import FastDropout
from blend_pl.models.layers.embedding import IdentityEmbedding, LearnedPositions, TokenEmbedding
from blend_pl.models.layers.fusion import Concatenation, Fusion
from blend_pl.models.layers.input_embedding import InputEmbedding
from blend_pl.models.layers.readout import log_rate_readout
from blend_pl.models.layers.transformer import TransformerLayer


class NDT(nn.Module):
    """A transformer encoder over time bins, from counts to log-rates.

    Held-out neurons and forward bins enter as zeros (`InputEmbedding`).
    h0 = dropout(E(x) sqrt(d) + P), pre-norm layers, a final norm, and a linear read-out after its own dropout.

    Args:
        dims: sizes.
        num_layers: number of layers.
        num_heads: attention heads; need not divide the width.
        dim_feedforward: hidden units of the feed-forward parts.
        dropout: dropout in the layers.
        dropout_embedding: dropout of h0.
        dropout_rates: dropout before the read-out.
        context_forward: bins that attention may look ahead; negative for no limit.
        context_backward: bins that attention may look back; negative for no limit.
        fixup: T-Fixup scaling of the initial weights.
        embedding: from counts to tokens, built from N.
        positions: position vectors, built from (T', width).
        fusion: how context joins the tokens, built from (token width, D); used only where `dims.context` > 0.
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
    ) -> None:
        super().__init__()
        self.input_embedding = InputEmbedding(dims, embedding, fusion)
        d_model = self.input_embedding.d_model
        self.positions = positions(dims.bins, d_model)
        self.dropout_embedding, self.dropout_rates = FastDropout(dropout_embedding), FastDropout(dropout_rates)
        stack = [TransformerLayer(d_model, num_heads, dim_feedforward, dropout) for _ in range(num_layers)]
        self.norm = nn.LayerNorm(d_model)
        self.readout = log_rate_readout(d_model, dims.neurons)
        self.window = AttentionWindow(dims.bins, context_forward, context_backward)
        if fixup:
            for layer in stack:
                layer.scale_fixup(num_layers)
        self.layers = nn.ModuleList(stack)

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        """Counts (B, T, C), and context (B, T', D) if built for it -> encoding of (B, T', N) log expected counts."""
        tokens = self.dropout_embedding(self.input_embedding(observed, context) + self.positions())
        features = []
        for layer in self.layers:
            tokens = layer(tokens, self.window)
            features.append(tokens)
        latents = self.norm(tokens)
        return Encoding(self.readout(self.dropout_rates(latents)), features, latents)
