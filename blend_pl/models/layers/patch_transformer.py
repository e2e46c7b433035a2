"""A bidirectional transformer over tokens with times: RMSNorm before, gated MLP, rotary positions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models.layers.rope import rotate, rotations


class TimedAttention(nn.Module):
    """Multi-head self-attention whose tokens say at which bin they are; no matrix of all pairs is kept.

    Args:
        width: width of a token.
        heads: number of heads; they divide the width into even parts.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Tokens (B, L, width) with angles (B or 1, 1, L, width / heads / 2) -> (B, L, width)."""
        parts = self.qkv(tokens).unflatten(-1, (3 * self.heads, -1)).transpose(1, 2)
        turned, v = parts.split((2 * self.heads, self.heads), 1)
        q, k = rotate(turned, cosine, sine).chunk(2, 1)
        # Dropout of the weights or a mask would bring the whole matrix back on a CPU.
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class GatedMLP(nn.Module):
    """W3 (silu(W1 x) * W2 x) (Shazeer, 2020, SwiGLU).

    Args:
        width: width of a token.
        hidden: hidden units.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        # Two products rather than a half each of one: its gradient would have to be put together from halves.
        gate, value = (F.linear(tokens, weight) for weight in self.up.weight.chunk(2))
        return self.down(F.silu(gate) * value)


class TimedLayer(nn.Module):
    """x + drop(attention(norm(x))), then x + drop(mlp(norm(x))).

    Args:
        width: width of a token.
        heads: attention heads.
        ratio: hidden units of the MLP, over the width.
        dropout: dropout of what is added.
    """

    def __init__(self, width: int, heads: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention, self.mlp = TimedAttention(width, heads), GatedMLP(width, ratio * width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """See `TimedAttention.forward`."""
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens), cosine, sine))
        return tokens + self.dropout(self.mlp(self.norm2(tokens)))


class TimedTransformer(nn.Module):
    """Layers with a norm at the end.

    Args:
        width: width of a token.
        layers: number of layers.
        heads: attention heads.
        ratio: hidden units of the MLPs, over the width.
        dropout: dropout of what layers add.
        rope_base: base of the rotary positions; the longest wavelength in bins is about 2 pi times as much.
    """

    def __init__(
        self, width: int, layers: int, heads: int, ratio: int = 4, dropout: float = 0.0, rope_base: float = 10_000.0
    ) -> None:
        super().__init__()
        self.head_width, self.rope_base = width // heads, rope_base
        self.layers = nn.ModuleList(TimedLayer(width, heads, ratio, dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(width)

    def forward(self, tokens: Tensor, times: Tensor) -> Tensor:
        """Tokens (B, L, width) at times (B or 1, L) in bins -> (B, L, width)."""
        with torch.autocast(tokens.device.type, enabled=False):
            cosine, sine = (part[:, None] for part in rotations(times, self.head_width, self.rope_base))
        for layer in self.layers:
            tokens = layer(tokens, cosine, sine)
        return self.norm(tokens)
