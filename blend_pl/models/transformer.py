"""Pre-norm transformer layers with a windowed attention, for any width and number of heads."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention_window(bins: int, forward: int, backward: int) -> Tensor | None:
    """Which bins attend to which.

    Args:
        bins: T'.
        forward: how many bins ahead a bin may look; negative for no limit.
        backward: how many bins back a bin may look; negative for no limit.

    Returns:
        (T', T') bool, True where row i may attend to column j: j - i <= forward and i - j <= backward; None where
        nothing is forbidden.
    """
    ahead = torch.arange(bins)[None, :] - torch.arange(bins)[:, None]
    allowed = torch.ones(bins, bins, dtype=torch.bool)
    if forward >= 0:
        allowed &= ahead <= forward
    if backward >= 0:
        allowed &= -ahead <= backward
    return None if allowed.all() else allowed


class SelfAttention(nn.Module):
    """Multi-head self-attention. A width that the heads do not divide is projected to the next one that they do.

    Args:
        width: width of a token.
        heads: number of heads.
        dropout: dropout of the attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        inner = heads * -(-width // heads)
        self.qkv = nn.Linear(width, 3 * inner)
        self.out_proj = nn.Linear(inner, width)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, window: Tensor | None) -> Tensor:
        """Tokens (B, T', width) and the allowed pairs (T', T') -> (B, T', width)."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, window, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))


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
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

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
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, window: Tensor | None) -> Tensor:
        """Tokens (B, T', width) and the allowed pairs (T', T') -> (B, T', width)."""
        tokens = tokens + self.dropout(self.attention(self.norm(tokens), window))
        return self.feedforward(tokens)

    @torch.no_grad()
    def scale_fixup(self, layers: int) -> None:
        """Shrinks the residual branches by 0.67 L^(-1/4), for stability (T-Fixup, Huang et al., 2020)."""
        for linear in (self.feedforward.linear1, self.feedforward.linear2, self.attention.out_proj):
            linear.weight.mul_(0.67 * layers**-0.25)
