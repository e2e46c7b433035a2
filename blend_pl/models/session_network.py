"""The contract of a network for several recording sessions: built from `SessionDims`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from blend_pl.models.base import Dims


@dataclass(frozen=True, kw_only=True)
class SessionDims(Dims):
    """Sizes of a backbone for several sessions; `channels` and `neurons` are the largest over sessions.

    Attributes:
        channels_per_session: session name -> number of channels.
    """

    channels_per_session: Mapping[str, int]

    @classmethod
    def from_sessions(cls, channels_per_session: Mapping[str, int], bins: int) -> "SessionDims":
        """Returns sizes for sessions in which every bin is observed and predicted."""
        n_channels = max(channels_per_session.values())
        return cls(n_channels, n_channels, bins, bins, channels_per_session=dict(channels_per_session))

    def for_session(self, name: str) -> "SessionDims":
        """Returns the sizes of a network for one of the sessions."""
        return self.from_sessions({name: self.channels_per_session[name]}, self.bins)


class SessionNetwork(nn.Module, ABC):
    """Base class of networks for several sessions, to which sessions can be added.

    `forward(observed, sessions, patch_mask=None, n_masked=None) -> Encoding`: see `PatchAutoencoder.forward`.
    """

    patch: int
    """Number of channels of a patch."""
    d_model: int
    """H, width of the latents."""

    @abstractmethod
    def n_patches(self, session: str) -> int:
        """Returns P, the number of patches of a session.

        Raises:
            DataError: the session is not registered.
        """

    @abstractmethod
    def register_session(self, name: str, channels: int, related_sessions: Sequence[str] = ()) -> None:
        """Adds a session; see `PatchTable.register`."""

    @abstractmethod
    def init_from(self, other: "SessionNetwork") -> None:
        """Copies the shared weights of another network, and the session weights of the sessions that both have.

        Raises:
            ConfigError: the networks differ in kind or size.
        """
