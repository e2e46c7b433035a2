"""From channels to patches: shared value embedders, and what is learned of each session alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.errors import ConfigError


class ValueEmbedding(nn.Module):
    """Base class of what turns the values of a patch, (B, T, P, patch), into tokens (B, T, P, width)."""

    def forward(self, values: Tensor, channel_mask: Tensor) -> Tensor:
        """Embeds values; where `channel_mask` (B, P, patch) is False there is no channel."""
        raise NotImplementedError


class CountPatches(ValueEmbedding):
    """A learned vector for every count, laid side by side over the neurons of a patch (Erturk et al., 2025).

    At first the vectors are multiples of one another, as the counts are: a token begins as a sum over spikes, which
    takes far fewer steps to be made use of than unrelated vectors do.

    Args:
        patch: neurons of a patch.
        d_model: width of a token, a multiple of `patch`.
        max_count: larger counts are read as this one.
    """

    def __init__(self, patch: int, d_model: int, max_count: int = 5) -> None:
        super().__init__()
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
    """A dilated causal convolution over time, of all channels of a patch (Erturk et al., 2025).

    Args:
        patch: channels of a patch.
        d_model: width of a token.
        kernel: bins that are looked at.
        dilation: bins between them.
    """

    def __init__(self, patch: int, d_model: int, kernel: int = 5, dilation: int = 2) -> None:
        super().__init__()
        self.causal_padding = (kernel - 1) * dilation
        self.convolution = nn.Conv1d(patch, d_model, kernel, dilation=dilation)

    def forward(self, values: Tensor, channel_mask: Tensor) -> Tensor:
        """Embeds waveforms; see `ValueEmbedding.forward`."""
        batch, _, n_patches, _ = values.shape
        series = values.masked_fill(~channel_mask[:, None], 0.0).permute(0, 2, 3, 1).flatten(0, 1)
        tokens: Tensor = self.convolution(F.pad(series, (self.causal_padding, 0)))
        return torch.unflatten(tokens, 0, (batch, n_patches)).permute(0, 3, 1, 2)


def patchify(values: Tensor, patch: int, n_patches: int, patch_mask: Tensor | None) -> Tensor:
    """(B, T, P, patch) patches of (B, T, C) values, 0 behind the last one and where they are hidden, (B, T, P)."""
    n_channels = n_patches * patch
    values = F.pad(values, (0, max(0, n_channels - values.shape[-1])))[..., :n_channels]
    values = values.unflatten(-1, (n_patches, patch))
    # A convolution would carry them into their neighbours.
    return values if patch_mask is None else values.masked_fill(patch_mask[..., None], 0.0)


def unpatchify(patches: Tensor, channel_mask: Tensor, n_channels: int) -> Tensor:
    """(B, T, channels) of (B, T, P, patch), 0 where `channel_mask` (B, P, patch) says that there is no channel."""
    values = patches.masked_fill(~channel_mask[:, None], 0.0).flatten(-2)
    return F.pad(values, (0, max(0, n_channels - values.shape[-1])))[..., :n_channels]
