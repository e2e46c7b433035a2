"""Patches of channels: splitting, merging and embeddings of their values."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.utils.checks import COUNT, check_range


class ValueEmbedding(nn.Module):
    """Base class of embeddings of the values of patches, (B, T, P, patch), as tokens (B, T, P, d_model)."""

    def forward(self, values: Tensor, channel_mask: Tensor) -> Tensor:
        """Embeds values; `channel_mask` (B, P, patch) is False for positions without a channel."""
        raise NotImplementedError


class CountPatches(ValueEmbedding):
    """Learned vector for each count, concatenated over the neurons of a patch (Erturk et al., 2025).

    The initial vector of a count is the count times one random vector, so that a token is initially linear in the
    counts. Training needs far fewer steps than with independent initial vectors.

    Args:
        patch: number of neurons of a patch.
        d_model: width of a token, a multiple of `patch`.
        max_count: counts are clipped to this value.
    """

    def __init__(self, patch: int, d_model: int, max_count: int = 5) -> None:
        super().__init__()
        check_range(COUNT, max_count=max_count)
        if d_model % patch:
            raise ConfigError(f"{patch} neurons do not divide a token of width {d_model}; choose model.backbone.patch")
        self.max_count = max_count
        self.embedding = nn.Embedding(max_count + 2, d_model // patch, padding_idx=max_count + 1)
        counts = torch.arange(max_count + 2) % (max_count + 1)
        with torch.no_grad():
            self.embedding.weight.copy_(counts[:, None] * torch.randn(1, d_model // patch))

    def forward(self, values: Tensor, channel_mask: Tensor) -> Tensor:
        """Embeds counts; see `ValueEmbedding.forward`."""
        counts = values.long().clamp(0, self.max_count)
        tokens: Tensor = self.embedding(counts.masked_fill(~channel_mask[:, None], self.max_count + 1)).flatten(-2)
        return tokens


class WaveformPatches(ValueEmbedding):
    """Dilated causal convolution over time of all channels of a patch (Erturk et al., 2025).

    Args:
        patch: number of channels of a patch.
        d_model: width of a token.
        kernel: number of bins in the kernel.
        dilation: distance between bins of the kernel, in bins.
    """

    def __init__(self, patch: int, d_model: int, kernel: int = 5, dilation: int = 2) -> None:
        super().__init__()
        check_range(COUNT, kernel=kernel, dilation=dilation)
        self.causal_padding = (kernel - 1) * dilation
        self.convolution = nn.Conv1d(patch, d_model, kernel, dilation=dilation)

    def forward(self, values: Tensor, channel_mask: Tensor) -> Tensor:
        """Embeds waveforms; see `ValueEmbedding.forward`."""
        batch, _, n_patches, _ = values.shape
        series = values.masked_fill(~channel_mask[:, None], 0.0).permute(0, 2, 3, 1).flatten(0, 1)
        tokens: Tensor = self.convolution(F.pad(series, (self.causal_padding, 0)))
        return torch.unflatten(tokens, 0, (batch, n_patches)).permute(0, 3, 1, 2)


def patchify(values: Tensor, patch: int, n_patches: int, patch_mask: Tensor | None) -> Tensor:
    """Splits values (B, T, C) into patches (B, T, P, patch); padding and masked patches, (B, T, P), are zero."""
    n_channels = n_patches * patch
    values = F.pad(values, (0, max(0, n_channels - values.shape[-1])))[..., :n_channels]
    values = values.unflatten(-1, (n_patches, patch))
    # Otherwise a convolution over time would leak masked values into the neighboring bins.
    return values if patch_mask is None else values.masked_fill(patch_mask[..., None], 0.0)


def unpatchify(patches: Tensor, channel_mask: Tensor, n_channels: int) -> Tensor:
    """Merges patches (B, T, P, patch) to (B, T, n_channels), 0 where `channel_mask` (B, P, patch) is False."""
    values = patches.masked_fill(~channel_mask[:, None], 0.0).flatten(-2)
    return F.pad(values, (0, max(0, n_channels - values.shape[-1])))[..., :n_channels]
