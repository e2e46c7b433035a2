"""A bidirectional pre-norm transformer with RMSNorm, gated MLPs and rotary position embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models.layers.rope import apply_rotary, rotary_cos_sin


class RotaryAttention(nn.Module):
    """Multi-head self-attention with rotary positions; the attention matrix is not stored.

    Args:
        d_model: width of a token.
        num_heads: number of heads; `d_model / num_heads` must be an even integer.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Maps tokens (B, L, d_model), with angles (B or 1, 1, L, d_model / num_heads / 2), to (B, L, d_model)."""
        qkv = self.qkv(tokens).unflatten(-1, (3 * self.num_heads, -1)).transpose(1, 2)
        qk, v = qkv.split((2 * self.num_heads, self.num_heads), 1)
        q, k = apply_rotary(qk, cosine, sine).chunk(2, 1)
        # On a CPU, dropout of the weights or a mask would make torch store the attention matrix.
        attended = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.out(attended.transpose(1, 2).flatten(-2))
        return projected


class GatedMLP(nn.Module):
    """W3 (silu(W1 x) * W2 x) (SwiGLU, Shazeer, 2020).

    Args:
        d_model: width of a token.
        hidden_dim: number of hidden units.
    """

    def __init__(self, d_model: int, hidden_dim: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, 2 * hidden_dim, bias=False)
        self.down = nn.Linear(hidden_dim, d_model, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (..., d_model) to (..., d_model)."""
        # Two products instead of one that is split: the backward pass of the split would concatenate the gradients.
        gate, value = (F.linear(tokens, weight) for weight in self.up.weight.chunk(2))
        projected: Tensor = self.down(F.silu(gate) * value)
        return projected


class RotaryTransformerLayer(nn.Module):
    """x + drop(attention(norm(x))), then x + drop(mlp(norm(x))).

    Args:
        d_model: width of a token.
        num_heads: number of attention heads.
        mlp_ratio: hidden units of the MLP divided by `d_model`.
        dropout: dropout of the residual branches.
    """

    def __init__(self, d_model: int, num_heads: int, mlp_ratio: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(d_model), nn.RMSNorm(d_model)
        self.attention, self.mlp = RotaryAttention(d_model, num_heads), GatedMLP(d_model, mlp_ratio * d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """See `RotaryAttention.forward`."""
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens), cosine, sine))
        transformed: Tensor = tokens + self.dropout(self.mlp(self.norm2(tokens)))
        return transformed


class RotaryTransformer(nn.Module):
    """A stack of `RotaryTransformerLayer` with a final RMSNorm.

    Args:
        d_model: width of a token.
        num_layers: number of layers.
        num_heads: number of attention heads.
        mlp_ratio: hidden units of the MLPs divided by `d_model`.
        dropout: dropout of the residual branches.
        rope_base: base of the rotary positions; the longest wavelength is about 2 pi times the base, in bins.
    """

    def __init__(
        self,
        d_model: int,
        num_layers: int,
        num_heads: int,
        mlp_ratio: int = 4,
        dropout: float = 0.0,
        rope_base: float = 10_000.0,
    ) -> None:
        super().__init__()
        self.head_dim, self.rope_base = d_model // num_heads, rope_base
        self.layers = nn.ModuleList(
            RotaryTransformerLayer(d_model, num_heads, mlp_ratio, dropout) for _ in range(num_layers)
        )
        self.norm = nn.RMSNorm(d_model)

    def forward(self, tokens: Tensor, times: Tensor) -> Tensor:
        """Maps tokens (B, L, d_model) at times (B or 1, L), in bins, to (B, L, d_model)."""
        with torch.autocast(tokens.device.type, enabled=False):
            cosine, sine = (angles[:, None] for angles in rotary_cos_sin(times, self.head_dim, self.rope_base))
        for layer in self.layers:
            tokens = layer(tokens, cosine, sine)
        normalized: Tensor = self.norm(tokens)
        return normalized
