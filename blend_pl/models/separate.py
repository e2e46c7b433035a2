"""A network for each session, with nothing in common: what single-session training is."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from blend_pl.errors import DataError
from blend_pl.models.autoencoder import PatchAutoencoder
from blend_pl.models.base import Encoding
from blend_pl.models.layers.grouping import encode_in_groups, grouped
from blend_pl.models.layers.patches import SessionDims, SessionNetwork


class Separate(SessionNetwork):
    """Trains single-session networks side by side: rows of a session go through its own network alone.

    Args:
        dims: sizes, with the sessions.
        network: builds the network of one session from its sizes.
    """

    def __init__(self, dims: SessionDims, network: Callable[[SessionDims], PatchAutoencoder]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(network(dims.only(name)) for name in dims.sessions)
        first = self.networks[0]
        assert isinstance(first, PatchAutoencoder)
        self.patch, self.width = first.patch, first.width
        self.number = {name: number for number, name in enumerate(dims.sessions)}

    def network(self, session: str) -> PatchAutoencoder:
        """The network that a session goes through.

        Raises:
            DataError: the session was never registered.
        """
        network = self.networks[self._number(session)]
        assert isinstance(network, PatchAutoencoder)
        return network

    def _number(self, session: str) -> int:
        if session not in self.number:
            raise DataError(f"no network knows the session {session}; register_session it first")
        return self.number[session]

    def patches(self, session: str) -> int:
        return self.network(session).patches(session)

    def register_session(self, name: str, channels: int, like: Sequence[str] = ()) -> None:
        """Lets a session go through the network of the first session that it is like.

        Raises:
            DataError: it is registered already, or like no session.
        """
        if not like:
            raise DataError(f"the session {name} has no network of its own; say which session it is like")
        self.network(like[0]).register_session(name, channels, like[:1])
        self.number[name] = self.number[like[0]]

    def adopt(self, other: SessionNetwork) -> None:
        """Begins each network where one network of all sessions, or the same session's of several, has ended.

        Raises:
            ConfigError: sizes differ.
        """
        for name in self.number:
            self.network(name).adopt(other.network(name) if isinstance(other, Separate) else other)

    def forward(
        self,
        observed: Tensor,
        sessions: Sequence[str],
        hidden: Tensor | None = None,
        dropped: Sequence[int] | None = None,
    ) -> Encoding:
        """Encodes segments; see `PatchAutoencoder.forward`."""
        if not len(observed):
            return self.networks[0](observed, sessions)
        groups = grouped(self._number(name) for name in sessions)

        def run(number: int, *rows: Any) -> Encoding:
            return self.networks[number](*rows)

        return encode_in_groups(groups, run, observed, sessions, hidden, dropped)
