"""Pre-norm transformer layers for any token width and number of heads."""

import torch
from torch import Tensor, nn

from blend_pl.models.layers.attention import AttentionWindow, SelfAttention
from blend_pl.models.layers.dropout import FastDropout
from blend_pl.models.layers.padded_linear import PaddedLinear


class FeedForward(nn.Module):
    """x + drop(W2 drop(relu(W1 norm(x)))) (Xiong et al., 2020).

    Args:
        d_model: width of a token.
        dim_feedforward: number of hidden units.
        dropout: dropout of the hidden units and of the residual branch.
    """

    def __init__(self, d_model: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.linear1, self.linear2 = PaddedLinear(d_model, dim_feedforward), PaddedLinear(dim_feedforward, d_model)
        self.dropout = FastDropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (B, T', d_model) to (B, T', d_model)."""
        hidden = self.dropout(self.linear1(self.norm(tokens)).relu())
        transformed: Tensor = tokens + self.dropout(self.linear2(hidden))
        return transformed


class TransformerLayer(nn.Module):
    """x + drop(attention(norm(x))), then the feed-forward part (Xiong et al., 2020).

    Args:
        d_model: width of a token.
        num_heads: number of heads.
        dim_feedforward: hidden units of the feed-forward part.
        dropout: dropout everywhere in the layer.
    """

    def __init__(self, d_model: int, num_heads: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, num_heads, dropout)
        self.feedforward = FeedForward(d_model, dim_feedforward, dropout)
        self.dropout = FastDropout(dropout)

    def forward(self, tokens: Tensor, window: AttentionWindow | None = None) -> Tensor:
        """Maps tokens (B, T', d_model) to (B, T', d_model); a window of None attends to all bins."""
        tokens = tokens + self.dropout(self.attention(self.norm(tokens), window))
        transformed: Tensor = self.feedforward(tokens)
        return transformed

    @torch.no_grad()
    def scale_fixup(self, num_layers: int) -> None:
        """Scales weights of the residual branches by 0.67 L^(-1/4), for stability (T-Fixup, Huang et al., 2020)."""
        for linear in (self.feedforward.linear1, self.feedforward.linear2, self.attention.out_proj):
            linear.weight.mul_(0.67 * num_layers**-0.25)
