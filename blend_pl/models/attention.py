"""Self-attention over bins, for any width and number of heads, within a window."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models.aligned import AlignedLinear, widen
from blend_pl.models.dropout import dropout


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


class Window(nn.Module):
    """Attention of bins to bins near them; see `attention_window`.

    On a CPU, blocks of bins look at no more than what lies within their reach. The numbers are the same.

    Args:
        bins: T'.
        forward: how many bins ahead a bin may look; negative for no limit.
        backward: how many bins back a bin may look; negative for no limit.
    """

    allowed: Tensor | None
    bias: Tensor | None

    def __init__(self, bins: int, forward: int, backward: int) -> None:
        super().__init__()
        self.bins, self.ahead, self.back = bins, forward, backward
        # Larger blocks compute more pairs in vain, smaller ones are too small for fast products.
        self.block = max(16, 3 * (forward + backward))
        self.blocks = -(-bins // self.block)
        pairs = self.blocks * self.block * (self.block + forward + backward)
        allowed, bias = attention_window(bins, forward, backward), None
        if allowed is not None and min(forward, backward) >= 0 and 2 * pairs < bins**2:
            bias = self._bias(allowed)
        self.register_buffer("allowed", allowed, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, p: float = 0.0) -> Tensor:
        """Queries, keys and values (B, T', heads, d), and the dropout of the weights -> (B, T', heads, d)."""
        if self.bias is None or q.device.type != "cpu":
            return attend(q, k, v, self.allowed, p)
        bins, width = q.shape[1], q.shape[-1]
        missing = (0, 0, 0, 0, 0, self.blocks * self.block - bins)
        q = F.pad(q, missing).unflatten(1, (self.blocks, self.block)).transpose(2, 3)
        k, v = (self._reached(part).transpose(2, 3) for part in (k, v))
        scores = (q * (1 / math.sqrt(width))) @ k.transpose(-1, -2) + self.bias
        weights = dropout(scores.softmax(-1).to(v.dtype), p, training=True)
        return (weights @ v).transpose(2, 3).flatten(1, 2)[:, :bins]

    def _reached(self, keys: Tensor) -> Tensor:
        """(B, T', heads, d) -> (B, blocks, back + block + ahead, heads, d), what the bins of each block reach."""
        behind = self.blocks * self.block - keys.shape[1] + self.ahead
        padded = F.pad(keys, (0, 0, 0, 0, self.back, behind))
        own, before, after = (
            padded[:, start : start + self.blocks * self.block].unflatten(1, (self.blocks, self.block))
            for start in (self.back, 0, self.back + self.ahead)
        )
        return torch.cat([before[:, :, : self.back], own, after[:, :, self.block - self.ahead :]], 2)

    def _bias(self, allowed: Tensor) -> Tensor:
        """(blocks, 1, block, back + block + ahead), 0 where a bin may look and -inf where not."""
        bins = len(allowed)
        rows = torch.arange(self.blocks)[:, None, None] * self.block + torch.arange(self.block)[:, None]
        columns = rows[:, :1] - self.back + torch.arange(self.back + self.block + self.ahead)
        within = allowed[rows.clamp(max=bins - 1), columns.clamp(0, bins - 1)] & (columns >= 0) & (columns < bins)
        # Rows behind the last bin are cut off again; they look anywhere, for without a value softmax has none.
        return torch.zeros(within.shape).masked_fill(~within & (rows < bins), -torch.inf)[:, None]


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, p: float) -> Tensor:
    """Attention of all to all; see `Window.forward`.

    Args:
        q: (B, T', heads, d).
        k: same shape.
        v: same shape.
        allowed: (T', T') bool; None where nothing is forbidden.
        p: dropout of the weights.
    """
    width = v.shape[-1]
    q, k, v = (widen(part).transpose(1, 2) for part in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, allowed, dropout_p=p, scale=1 / math.sqrt(width))
    return mixed.transpose(1, 2)[..., :width]


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
        self.qkv = AlignedLinear(width, 3 * inner)
        self.out_proj = AlignedLinear(inner, width)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, window: Window | None = None) -> Tensor:
        """Tokens (B, T', width), and where they may look, None for anywhere -> (B, T', width)."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        p = self.dropout if self.training else 0.0
        mixed = window(q, k, v, p) if window else attend(q, k, v, None, p)
        return self.out_proj(mixed.flatten(-2))
