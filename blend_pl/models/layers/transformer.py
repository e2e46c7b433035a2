"""Pre-norm transformer layers, for any width and number of heads."""

import torch
from torch import Tensor, nn

from blend_pl.models.layers.attention import SelfAttention, Window
from blend_pl.models.layers.dropout import Dropout
from blend_pl.models.layers.padded_linear import AlignedLinear


class FeedForward(nn.Module):
    """x + drop(W2 drop(relu(W1 norm(x)))) (Xiong et al., 2020).

    Args:
        width: width of a token.
        hidden: hidden units.
        dropout: dropout of the hidden units and of the result.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear1, self.linear2 = AlignedLinear(width, hidden), AlignedLinear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T', width) -> (B, T', width)."""
        hidden = self.dropout(self.linear1(self.norm(tokens)).relu())
        return tokens + self.dropout(self.linear2(hidden))


class TransformerLayer(nn.Module):
    """x + drop(attention(norm(x))), then the feed-forward part (Xiong et al., 2020).

    Args:
        width: width of a token.
        heads: number of heads.
        feedforward: hidden units of the feed-forward part.
        dropout: dropout everywhere in the layer.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, dropout)
        self.feedforward = FeedForward(width, feedforward, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, window: Window | None = None) -> Tensor:
        """Tokens (B, T', width), and where they may look, None for anywhere -> (B, T', width)."""
        tokens = tokens + self.dropout(self.attention(self.norm(tokens), window))
        return self.feedforward(tokens)

    @torch.no_grad()
    def scale_fixup(self, layers: int) -> None:
        """Shrinks the residual branches by 0.67 L^(-1/4), for stability (T-Fixup, Huang et al., 2020)."""
        for linear in (self.feedforward.linear1, self.feedforward.linear2, self.attention.out_proj):
            linear.weight.mul_(0.67 * layers**-0.25)
