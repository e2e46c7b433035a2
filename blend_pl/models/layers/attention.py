"""Windowed self-attention over bins, for any token width and number of heads."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models.layers.dropout import dropout_mask
from blend_pl.models.layers.padded_linear import PaddedLinear, pad_columns


def window_mask(bins: int, context_forward: int, context_backward: int) -> Tensor | None:
    """Returns the attention mask of a window.

    Args:
        bins: T', number of bins.
        context_forward: number of later bins that a bin attends to; negative for no limit.
        context_backward: number of earlier bins that a bin attends to; negative for no limit.

    Returns:
        (T', T') bool, True where row i attends to column j: j - i <= context_forward and i - j <= context_backward;
        None if every bin attends to every bin.
    """
    offset = torch.arange(bins)[None, :] - torch.arange(bins)[:, None]
    allowed = torch.ones(bins, bins, dtype=torch.bool)
    if context_forward >= 0:
        allowed &= offset <= context_forward
    if context_backward >= 0:
        allowed &= -offset <= context_backward
    return None if allowed.all() else allowed


def context_bins(context: int, context_ms: float | None, bin_ms: float) -> int:
    """Returns the length of a context in bins.

    Args:
        context: length in bins, which is used if `context_ms` is None; negative for no limit.
        context_ms: length in ms, which is rounded to bins; negative for no limit.
        bin_ms: bin width.

    Example:
        >>> context_bins(8, None, 20), context_bins(8, 100, 20), context_bins(8, 100, 5), context_bins(8, -1, 5)
        (8, 5, 20, -1)
    """
    if context_ms is None:
        return context
    return -1 if context_ms < 0 else round(context_ms / bin_ms)


class AttentionWindow(nn.Module):
    """Attention of each bin to the bins in a window around it; see `window_mask`.

    On a CPU, scores are computed in blocks of bins, only for keys within the window of the block. The result is the
    same as with the dense mask.

    Args:
        bins: T', number of bins.
        context_forward: number of later bins that a bin attends to; negative for no limit.
        context_backward: number of earlier bins that a bin attends to; negative for no limit.
    """

    allowed: Tensor | None
    bias: Tensor | None

    def __init__(self, bins: int, context_forward: int, context_backward: int) -> None:
        super().__init__()
        self.bins, self.context_forward, self.context_backward = bins, context_forward, context_backward
        # Larger blocks compute more masked pairs; smaller blocks make the matrix products slower.
        self.block_size = max(16, 3 * (context_forward + context_backward))
        self.n_blocks = -(-bins // self.block_size)
        self.keys_per_block = self.block_size + context_forward + context_backward
        allowed, bias = window_mask(bins, context_forward, context_backward), None
        if (
            allowed is not None
            and min(context_forward, context_backward) >= 0
            and 2 * self.n_blocks * self.block_size * self.keys_per_block < bins**2
        ):
            bias = torch.zeros(bins, bins).masked_fill(~allowed, -torch.inf)
        self.block_slices = self._build_block_slices()
        self.register_buffer("allowed", allowed, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, qkv: Tensor, p: float = 0.0) -> Tensor:
        """Maps queries, keys and values (B, T', 3, heads, d) to (B, T', heads, d); p is the dropout of the weights."""
        # The blockwise path fixes the number of trials, which an exported program must not.
        if self.bias is None or qkv.device.type != "cpu" or torch.compiler.is_compiling():
            return dense_attention(qkv, self.allowed, p)
        shape = (len(qkv), self.n_blocks, qkv.shape[3], self.block_size, self.keys_per_block)
        mask = dropout_mask(qkv, shape, p) if p else None
        apply: Callable[..., tuple[Tensor, ...]] = _BlockwiseAttention.apply
        return apply(qkv, self.bias, mask, self.block_slices)[0]

    def _build_block_slices(self) -> list["BlockSlices"]:
        block_slices, previous_stop = [], 0
        for query_start in range(0, self.bins, self.block_size):
            key_start, query_stop = (
                max(0, query_start - self.context_backward),
                min(self.bins, query_start + self.block_size),
            )
            key_stop, n_missing = (
                min(self.bins, query_stop + self.context_forward),
                max(0, self.context_backward - query_start),
            )
            block_slices.append(
                BlockSlices(
                    slice(query_start, query_stop),
                    slice(key_start, key_stop),
                    slice(n_missing, n_missing + key_stop - key_start),
                    previous_stop - key_start,
                )
            )
            previous_stop = key_stop
        return block_slices


class BlockSlices(NamedTuple):
    """Slices of a block of query bins.

    Attributes:
        query_slice: bins of the block.
        key_slice: bins that the block attends to.
        mask_slice: position of `key_slice` in the window of the block, which the ends of the trial truncate.
        n_overlap: number of leading key bins that the previous block attends to as well.
    """

    query_slice: slice
    key_slice: slice
    mask_slice: slice
    n_overlap: int


class _BlockwiseAttention(torch.autograd.Function):
    """Attention by block and head: the tensors of one block and head fit into the cache of a CPU."""

    generate_vmap_rule = True

    @staticmethod
    def forward(qkv: Tensor, bias: Tensor, mask: Tensor | None, block_slices: list[BlockSlices]) -> tuple[Tensor, ...]:
        attended, saved_weights = qkv.new_empty(qkv[:, :, 0].shape), []
        for head, block, block_mask in _iterate_blocks(qkv, mask, block_slices):
            q, k, v = _block_qkv(qkv, block, head)
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(1, 2) + bias[block.query_slice, block.key_slice]
            weights = scores.softmax(-1).to(qkv.dtype)
            attended[:, block.query_slice, head] = (weights if block_mask is None else weights * block_mask) @ v
            saved_weights.append(weights)
        return attended, *saved_weights

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        qkv, _, mask, ctx.spans = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(qkv, mask, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        qkv, mask, *saved_weights = ctx.saved_tensors
        grad_qkv, previous_grads = qkv.new_empty(qkv.shape), (grad, grad)
        for (head, block, block_mask), weights in zip(
            _iterate_blocks(qkv, mask, ctx.spans), saved_weights, strict=True
        ):
            q, k, v = _block_qkv(qkv, block, head)
            grad_block = _contiguous_if_bfloat16(grad[:, block.query_slice, head])
            grad_scores, dropped_weights = grad_block @ v.transpose(1, 2), weights
            if block_mask is not None:
                grad_scores, dropped_weights = grad_scores * block_mask, weights * block_mask
            # PyTorch has no public function for the backward pass of softmax.
            grad_scores = (
                torch._softmax_backward_data(grad_scores, weights, -1, grad_scores.dtype) * q.shape[-1] ** -0.5
            )
            grad_qkv[:, block.query_slice, 0, head] = grad_scores @ k
            current_grads = (grad_scores.transpose(1, 2) @ q, dropped_weights.transpose(1, 2) @ grad_block)
            for qkv_index, (current_grad, previous_grad) in enumerate(
                zip(current_grads, previous_grads, strict=True), 1
            ):
                if block.n_overlap:
                    current_grad[:, : block.n_overlap] += previous_grad[:, -block.n_overlap :]
                grad_qkv[:, block.key_slice, qkv_index, head] = current_grad
            previous_grads = current_grads
        return grad_qkv, None, None, None


def _iterate_blocks(
    qkv: Tensor, mask: Tensor | None, block_slices: list[BlockSlices]
) -> Iterator[tuple[int, BlockSlices, Tensor | None]]:
    """Yields heads, blocks, and their slices of a mask (B, blocks, heads, block_size, keys_per_block)."""
    for head in range(qkv.shape[3]):
        for block_index, block in enumerate(block_slices):
            bins = block.query_slice.stop - block.query_slice.start
            yield head, block, None if mask is None else mask[:, block_index, head, :bins, block.mask_slice]


def _block_qkv(qkv: Tensor, block: BlockSlices, head: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the queries (B, rows, d), keys (B, columns, d) and values (B, columns, d) of a block and head."""
    selections = ((block.query_slice, 0), (block.key_slice, 1), (block.key_slice, 2))
    q, k, v = (_contiguous_if_bfloat16(qkv[:, bins, qkv_index, head]) for bins, qkv_index in selections)
    return q, k, v


def _contiguous_if_bfloat16(tensor: Tensor) -> Tensor:
    """Copies bfloat16 tensors once, because otherwise each of several matrix products copies them."""
    return tensor.contiguous() if tensor.dtype == torch.bfloat16 else tensor


def dense_attention(qkv: Tensor, allowed: Tensor | None, p: float) -> Tensor:
    """Computes attention with a dense mask; see `AttentionWindow.forward`.

    Args:
        qkv: (B, T', 3, heads, d) queries, keys and values.
        allowed: (T', T') bool; None for no mask.
        p: dropout of the attention weights.
    """
    head_dim = qkv.shape[-1]
    q, k, v = (pad_columns(tensor).transpose(1, 2) for tensor in qkv.unbind(2))
    attended = F.scaled_dot_product_attention(q, k, v, allowed, dropout_p=p, scale=1 / math.sqrt(head_dim))
    return attended.transpose(1, 2)[..., :head_dim]


class SelfAttention(nn.Module):
    """Multi-head self-attention; `num_heads` need not divide `d_model`, the inner width is rounded up to a multiple.

    Args:
        d_model: width of a token.
        num_heads: number of heads.
        dropout: dropout of the attention weights.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        inner_dim = num_heads * -(-d_model // num_heads)
        self.qkv = PaddedLinear(d_model, 3 * inner_dim)
        self.out_proj = PaddedLinear(inner_dim, d_model)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, window: AttentionWindow | None = None) -> Tensor:
        """Maps tokens (B, T', d_model) to (B, T', d_model); a window of None attends to all bins."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1))
        p = self.dropout if self.training else 0.0
        attended = window(qkv, p) if window else dense_attention(qkv, None, p)
        projected: Tensor = self.out_proj(attended.flatten(-2))
        return projected
