"""From channels to patches: shared value embedders, and what is learned of each session alone."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.errors import ConfigError, DataError
from blend_pl.models.base import Dims
from blend_pl.models.layers.grouping import group_rows
from blend_pl.utils.device import to_device_async


@dataclass(frozen=True, kw_only=True)
class SessionDims(Dims):
    """Sizes of a backbone for several sessions; `channels` and `neurons` are those of the widest.

    Attributes:
        channels_per_session: channels of each session by its name.
    """

    channels_per_session: Mapping[str, int]

    @classmethod
    def from_sessions(cls, channels_per_session: Mapping[str, int], bins: int) -> "SessionDims":
        """Sizes for sessions whose every bin is observed and predicted."""
        n_channels = max(channels_per_session.values())
        return cls(n_channels, n_channels, bins, bins, channels_per_session=dict(channels_per_session))

    def for_session(self, name: str) -> "SessionDims":
        """Sizes for one of the sessions."""
        return self.from_sessions({name: self.channels_per_session[name]}, self.bins)


class SessionNetwork(nn.Module, ABC):
    """Base class of networks that know several sessions and can be told of more; built from `SessionDims`.

    `forward(observed, sessions, hidden=None, dropped=None) -> Encoding`: see `PatchAutoencoder`.
    """

    patch: int
    """Channels of a patch."""
    d_model: int
    """H, width of the latents."""

    @abstractmethod
    def n_patches(self, session: str) -> int:
        """P, the number of patches of a session.

        Raises:
            DataError: the session was never registered.
        """

    @abstractmethod
    def register_session(self, name: str, channels: int, related_sessions: Sequence[str] = ()) -> None:
        """Makes room for a session; see `PatchTable.register`."""

    @abstractmethod
    def init_from(self, other: "SessionNetwork") -> None:
        """Takes over all that another network of the same sizes has learned, of its own sessions where it knows them.

        Raises:
            ConfigError: the two do not fit together.
        """


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
        return self.embedding(counts.masked_fill(~channel_mask[:, None], self.max_count + 1)).flatten(-2)


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
        tokens = self.convolution(F.pad(series, (self.causal_padding, 0)))
        return tokens.unflatten(0, (batch, n_patches)).permute(0, 3, 1, 2)


class PatchTable(nn.Module):
    """A learned vector for every patch of every session: all that a network knows of one session alone.

    Args:
        channels_per_session: channels of each session by its name.
        patch: channels of a patch.
        d_model: width of a vector.
    """

    def __init__(self, channels_per_session: Mapping[str, int], patch: int, d_model: int) -> None:
        super().__init__()
        self.patch = patch
        self.channels: dict[str, int] = {}
        self.offsets: dict[str, int] = {}
        self.weight = nn.Parameter(torch.empty(0, d_model))
        for name, channels in channels_per_session.items():
            self.register(name, channels)

    def n_patches(self, name: str) -> int:
        """P, the number of patches of a session.

        Raises:
            DataError: the session was never registered.
        """
        if name not in self.channels:
            raise DataError(f"this network does not know the session {name}; register_session it first")
        return -(-self.channels[name] // self.patch)

    def register(self, name: str, channels: int, related_sessions: Sequence[str] = ()) -> None:
        """Adds a session.

        Args:
            name: its name.
            channels: its number of channels, at least 1.
            related_sessions: sessions whose vectors it takes over, patch by patch their mean; none to begin at random.

        Raises:
            DataError: it is there already, has no channels, or is like a session that is not there.
        """
        if name in self.channels:
            raise DataError(f"the session {name} is registered already; choose another name")
        if channels < 1:
            raise DataError(f"the session {name} has no channels; leave it out")
        n_patches = -(-channels // self.patch)
        d_model, device = self.weight.shape[1], self.weight.device
        rows = torch.randn(n_patches, d_model, device=device) * d_model**-0.5
        if related_sessions:
            similar_embeddings = [self.session_embeddings(other).detach() for other in related_sessions]
            for patch in range(n_patches):
                # A patch further than all of theirs is like their last ones.
                aligned_vectors = [vectors[patch] for vectors in similar_embeddings if patch < len(vectors)] or [
                    v[-1] for v in similar_embeddings
                ]
                rows[patch] = torch.stack(aligned_vectors).mean(0)
        self.offsets[name], self.channels[name] = len(self.weight), channels
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), rows]), self.weight.requires_grad)

    def session_embeddings(self, name: str) -> Tensor:
        """(P, width) vectors of a session."""
        n_patches = self.n_patches(name)
        return self.weight[self.offsets[name] : self.offsets[name] + n_patches]

    def forward(self, sessions: Sequence[str]) -> Tensor:
        """(B, P, width) vectors of sessions with equally many patches."""
        n_patches = self.n_patches(sessions[0])
        offsets = to_device_async([self.offsets[name] for name in sessions], self.weight.device)
        return self.weight[offsets[:, None] + torch.arange(n_patches, device=offsets.device)]

    def channel_mask(self, sessions: Sequence[str]) -> Tensor:
        """(B, P, patch) bool, where sessions with equally many patches have a channel."""
        channels = to_device_async([self.channels[name] for name in sessions], self.weight.device)
        channel_indices = torch.arange(self.n_patches(sessions[0]) * self.patch, device=channels.device)
        return (channel_indices < channels[:, None]).unflatten(1, (-1, self.patch))

    def rows_by_n_patches(self, sessions: Sequence[str]) -> dict[int, list[int]]:
        """Rows of a batch by the number of patches of their session, so that each group stacks without padding."""
        return group_rows(self.n_patches(name) for name in sessions)
