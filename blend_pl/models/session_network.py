"""Networks of several recording sessions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from blend_pl.models.base import Dims


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
