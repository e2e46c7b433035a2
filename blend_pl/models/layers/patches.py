"""From channels to patches: shared value embedders, and what is learned of each session alone."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.errors import ConfigError, DataError
from blend_pl.models.base import Dims
from blend_pl.models.layers.grouping import grouped
from blend_pl.utils.device import sent


@dataclass(frozen=True, kw_only=True)
class SessionDims(Dims):
    """Sizes of a backbone for several sessions; `channels` and `neurons` are those of the widest.

    Attributes:
        sessions: channels of each session by its name.
    """

    sessions: Mapping[str, int]

    @classmethod
    def of(cls, sessions: Mapping[str, int], bins: int) -> "SessionDims":
        """Sizes for sessions whose every bin is observed and predicted."""
        widest = max(sessions.values())
        return cls(widest, widest, bins, bins, sessions=dict(sessions))

    def only(self, name: str) -> "SessionDims":
        """Sizes for one of the sessions."""
        return self.of({name: self.sessions[name]}, self.bins)


class SessionNetwork(nn.Module, ABC):
    """Base class of networks that know several sessions and can be told of more; built from `SessionDims`.

    `forward(observed, sessions, hidden=None, dropped=None) -> Encoding`: see `PatchAutoencoder`.
    """

    patch: int
    """Channels of a patch."""
    width: int
    """H, width of the latents."""

    @abstractmethod
    def patches(self, session: str) -> int:
        """P, the number of patches of a session.

        Raises:
            DataError: the session was never registered.
        """

    @abstractmethod
    def register_session(self, name: str, channels: int, like: Sequence[str] = ()) -> None:
        """Makes room for a session; see `PatchTable.register`."""

    @abstractmethod
    def adopt(self, other: "SessionNetwork") -> None:
        """Takes over all that another network of the same sizes has learned, of its own sessions where it knows them.

        Raises:
            ConfigError: the two do not fit together.
        """


class ValueEmbedding(nn.Module):
    """Base class of what turns the values of a patch, (B, T, P, patch), into tokens (B, T, P, width)."""

    def forward(self, values: Tensor, present: Tensor) -> Tensor:
        """Embeds values; where `present` (B, P, patch) is False there is no channel."""
        raise NotImplementedError


class CountPatches(ValueEmbedding):
    """A learned vector for every count, laid side by side over the neurons of a patch (Erturk et al., 2025).

    At first the vectors are multiples of one another, as the counts are: a token begins as a sum over spikes, which
    takes far fewer steps to be made use of than unrelated vectors do.

    Args:
        patch: neurons of a patch.
        width: width of a token, a multiple of `patch`.
        max_count: larger counts are read as this one.
    """

    def __init__(self, patch: int, width: int, max_count: int = 5) -> None:
        super().__init__()
        if width % patch:
            raise ConfigError(f"{patch} neurons do not divide a token of width {width}; choose model.backbone.patch")
        self.max_count = max_count
        self.embedding = nn.Embedding(max_count + 2, width // patch, padding_idx=max_count + 1)
        counts = torch.arange(max_count + 2) % (max_count + 1)
        with torch.no_grad():
            self.embedding.weight.copy_(counts[:, None] * torch.randn(1, width // patch))

    def forward(self, values: Tensor, present: Tensor) -> Tensor:
        """Embeds counts; see `ValueEmbedding.forward`."""
        counts = values.long().clamp(0, self.max_count)
        return self.embedding(counts.masked_fill(~present[:, None], self.max_count + 1)).flatten(-2)


class WaveformPatches(ValueEmbedding):
    """A dilated causal convolution over time, of all channels of a patch (Erturk et al., 2025).

    Args:
        patch: channels of a patch.
        width: width of a token.
        kernel: bins that are looked at.
        dilation: bins between them.
    """

    def __init__(self, patch: int, width: int, kernel: int = 5, dilation: int = 2) -> None:
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.convolution = nn.Conv1d(patch, width, kernel, dilation=dilation)

    def forward(self, values: Tensor, present: Tensor) -> Tensor:
        """Embeds waveforms; see `ValueEmbedding.forward`."""
        batch, _, patches, _ = values.shape
        series = values.masked_fill(~present[:, None], 0.0).permute(0, 2, 3, 1).flatten(0, 1)
        tokens = self.convolution(F.pad(series, (self.past, 0)))
        return tokens.unflatten(0, (batch, patches)).permute(0, 3, 1, 2)


class PatchTable(nn.Module):
    """A learned vector for every patch of every session: all that a network knows of one session alone.

    Args:
        sessions: channels of each session by its name.
        patch: channels of a patch.
        width: width of a vector.
    """

    def __init__(self, sessions: Mapping[str, int], patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.channels: dict[str, int] = {}
        self.starts: dict[str, int] = {}
        self.weight = nn.Parameter(torch.empty(0, width))
        for name, channels in sessions.items():
            self.register(name, channels)

    def patches(self, name: str) -> int:
        """P, the number of patches of a session.

        Raises:
            DataError: the session was never registered.
        """
        if name not in self.channels:
            raise DataError(f"this network does not know the session {name}; register_session it first")
        return -(-self.channels[name] // self.patch)

    def register(self, name: str, channels: int, like: Sequence[str] = ()) -> None:
        """Adds a session.

        Args:
            name: its name.
            channels: its number of channels, at least 1.
            like: sessions whose vectors it takes over, patch by patch their mean; none to begin at random.

        Raises:
            DataError: it is there already, has no channels, or is like a session that is not there.
        """
        if name in self.channels:
            raise DataError(f"the session {name} is registered already; choose another name")
        if channels < 1:
            raise DataError(f"the session {name} has no channels; leave it out")
        wanted = -(-channels // self.patch)
        width, device = self.weight.shape[1], self.weight.device
        rows = torch.randn(wanted, width, device=device) * width**-0.5
        if like:
            known = [self.rows(other).detach() for other in like]
            for patch in range(wanted):
                # A patch further than all of theirs is like their last ones.
                same = [vectors[patch] for vectors in known if patch < len(vectors)] or [v[-1] for v in known]
                rows[patch] = torch.stack(same).mean(0)
        self.starts[name], self.channels[name] = len(self.weight), channels
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), rows]), self.weight.requires_grad)

    def rows(self, name: str) -> Tensor:
        """(P, width) vectors of a session."""
        count = self.patches(name)
        return self.weight[self.starts[name] : self.starts[name] + count]

    def forward(self, sessions: Sequence[str]) -> Tensor:
        """(B, P, width) vectors of sessions with equally many patches."""
        count = self.patches(sessions[0])
        starts = sent([self.starts[name] for name in sessions], self.weight.device)
        return self.weight[starts[:, None] + torch.arange(count, device=starts.device)]

    def present(self, sessions: Sequence[str]) -> Tensor:
        """(B, P, patch) bool, where sessions with equally many patches have a channel."""
        channels = sent([self.channels[name] for name in sessions], self.weight.device)
        places = torch.arange(self.patches(sessions[0]) * self.patch, device=channels.device)
        return (places < channels[:, None]).unflatten(1, (-1, self.patch))

    def groups(self, sessions: Sequence[str]) -> dict[int, list[int]]:
        """Rows of a batch by the number of patches of their session, so that each group stacks without padding."""
        return grouped(self.patches(name) for name in sessions)
