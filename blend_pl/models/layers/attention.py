"""Self-attention over bins, for any width and number of heads, within a window."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models.layers.dropout import dropout_mask
from blend_pl.models.layers.padded_linear import AlignedLinear, widen


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
        self.reach = self.block + forward + backward
        allowed, bias = attention_window(bins, forward, backward), None
        if allowed is not None and min(forward, backward) >= 0 and 2 * self.blocks * self.block * self.reach < bins**2:
            bias = torch.zeros(bins, bins).masked_fill(~allowed, -torch.inf)
        self.spans = self._spans()
        self.register_buffer("allowed", allowed, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, qkv: Tensor, p: float = 0.0) -> Tensor:
        """Queries, keys and values (B, T', 3, heads, d), and the dropout of the weights -> (B, T', heads, d)."""
        # A program that is written from this must fit any number of trials.
        if self.bias is None or qkv.device.type != "cpu" or torch.compiler.is_compiling():
            return attend(qkv, self.allowed, p)
        shape = (len(qkv), self.blocks, qkv.shape[3], self.block, self.reach)
        mixed, *_ = _Blocks.apply(qkv, self.bias, dropout_mask(qkv, shape, p) if p else None, self.spans)
        return mixed  # type: ignore[no-any-return]

    def _spans(self) -> list["Span"]:
        spans, done = [], 0
        for first in range(0, self.bins, self.block):
            begin, last = max(0, first - self.back), min(self.bins, first + self.block)
            end, missing = min(self.bins, last + self.ahead), max(0, self.back - first)
            spans.append(
                Span(slice(first, last), slice(begin, end), slice(missing, missing + end - begin), done - begin)
            )
            done = end
        return spans


class Span(NamedTuple):
    """A block.

    Attributes:
        rows: its bins.
        columns: the bins that these reach.
        within: where those are in the whole reach, of which trials' ends cut off some.
        shared: how many of them blocks before reach too.
    """

    rows: slice
    columns: slice
    within: slice
    shared: int


class _Blocks(torch.autograd.Function):
    """Attention block by block and head by head, whose tensors fit into a processor's cache; whole trials' do not."""

    generate_vmap_rule = True

    @staticmethod
    def forward(qkv: Tensor, bias: Tensor, mask: Tensor | None, spans: list[Span]) -> tuple[Tensor, ...]:
        mixed, saved = qkv.new_empty(qkv[:, :, 0].shape), []
        for head, span, kept in _parts(qkv, mask, spans):
            q, k, v = _factors(qkv, span, head)
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(1, 2) + bias[span.rows, span.columns]
            weights = scores.softmax(-1).to(qkv.dtype)
            mixed[:, span.rows, head] = (weights if kept is None else weights * kept) @ v
            saved.append(weights)
        return mixed, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        qkv, _, mask, ctx.spans = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(qkv, mask, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if grad is None:
            return None, None, None, None
        qkv, mask, *saved = ctx.saved_tensors
        out, tails = qkv.new_empty(qkv.shape), (grad, grad)
        for (head, span, kept), weights in zip(_parts(qkv, mask, ctx.spans), saved, strict=True):
            q, k, v = _factors(qkv, span, head)
            back = _factor(grad[:, span.rows, head])
            change, dropped = back @ v.transpose(1, 2), weights
            if kept is not None:
                change, dropped = change * kept, weights * kept
            change = torch._softmax_backward_data(change, weights, -1, change.dtype) * q.shape[-1] ** -0.5
            out[:, span.rows, 0, head] = change @ k
            found = (change.transpose(1, 2) @ q, dropped.transpose(1, 2) @ back)
            for part, (own, before) in enumerate(zip(found, tails, strict=True), 1):
                if span.shared:
                    own[:, : span.shared] += before[:, -span.shared :]
                out[:, span.columns, part, head] = own
            tails = found
        return out, None, None, None


def _parts(qkv: Tensor, mask: Tensor | None, spans: list[Span]) -> Iterator[tuple[int, Span, Tensor | None]]:
    """Heads, blocks, and their parts of a mask (B, blocks, heads, block, reach)."""
    for head in range(qkv.shape[3]):
        for number, span in enumerate(spans):
            bins = span.rows.stop - span.rows.start
            yield head, span, None if mask is None else mask[:, number, head, :bins, span.within]


def _factors(qkv: Tensor, span: Span, head: int) -> tuple[Tensor, Tensor, Tensor]:
    """A block's queries (B, rows, d), and the keys and values (B, columns, d) that they reach."""
    parts = ((span.rows, 0), (span.columns, 1), (span.columns, 2))
    q, k, v = (_factor(qkv[:, bins, part, head]) for bins, part in parts)
    return q, k, v


def _factor(part: Tensor) -> Tensor:
    """A factor of several products, copied where each product would copy it otherwise."""
    return part.contiguous() if part.dtype == torch.bfloat16 else part


def attend(qkv: Tensor, allowed: Tensor | None, p: float) -> Tensor:
    """Attention of all to all; see `Window.forward`.

    Args:
        qkv: (B, T', 3, heads, d).
        allowed: (T', T') bool; None where nothing is forbidden.
        p: dropout of the weights.
    """
    width = qkv.shape[-1]
    q, k, v = (widen(part).transpose(1, 2) for part in qkv.unbind(2))
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
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        p = self.dropout if self.training else 0.0
        mixed = window(qkv, p) if window else attend(qkv, None, p)
        return self.out_proj(mixed.flatten(-2))
