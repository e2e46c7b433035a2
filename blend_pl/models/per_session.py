"""Independent per-session networks: the single-session baseline."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from blend_pl.errors import DataError
from blend_pl.models.autoencoder import PatchAutoencoder
from blend_pl.models.base import Encoding
from blend_pl.models.layers.grouping import encode_in_groups, group_rows
from blend_pl.models.session_network import SessionDims, SessionNetwork


class PerSessionNetworks(SessionNetwork):
    """Single-session networks that are trained together; each row of a batch is encoded by the network of its session.

    Args:
        dims: sizes, including the sessions.
        build_network: builds the network of one session from its sizes.
    """

    def __init__(self, dims: SessionDims, build_network: Callable[[SessionDims], nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(build_network(dims.for_session(name)) for name in dims.channels_per_session)
        first_network = self._network_at(0)
        self.patch, self.d_model = first_network.patch, first_network.d_model
        self.network_indices = {name: index for index, name in enumerate(dims.channels_per_session)}

    def network(self, session: str) -> PatchAutoencoder:
        """Returns the network of a session.

        Raises:
            DataError: the session is not registered.
        """
        return self._network_at(self._network_index(session))

    def _network_at(self, index: int) -> PatchAutoencoder:
        network = self.networks[index]
        assert isinstance(network, PatchAutoencoder)
        return network

    def _network_index(self, session: str) -> int:
        if session not in self.network_indices:
            raise DataError(f"the session {session} is not registered in any network; call register_session first")
        return self.network_indices[session]

    def n_patches(self, session: str) -> int:
        return self.network(session).n_patches(session)

    def register_session(self, name: str, channels: int, related_sessions: Sequence[str] = ()) -> None:
        """Adds a session to the network of the first related session.

        Raises:
            DataError: the session is registered already, or no related session is given.
        """
        if not related_sessions:
            raise DataError(f"the session {name} has no network; name a related session")
        self.network(related_sessions[0]).register_session(name, channels, related_sessions[:1])
        self.network_indices[name] = self.network_indices[related_sessions[0]]

    def init_from(self, other: SessionNetwork) -> None:
        """Initializes each network from a network of all sessions, or from the per-session network of its session.

        Raises:
            ConfigError: the sizes differ.
        """
        for name in self.network_indices:
            self.network(name).init_from(other.network(name) if isinstance(other, PerSessionNetworks) else other)

    def forward(
        self,
        observed: Tensor,
        sessions: Sequence[str],
        patch_mask: Tensor | None = None,
        n_masked: Sequence[int] | None = None,
    ) -> Encoding:
        """Encodes segments; see `PatchAutoencoder.forward`."""
        if not len(observed):
            empty: Encoding = self.networks[0](observed, sessions)
            return empty
        groups = group_rows(self._network_index(name) for name in sessions)

        def encode_group(index: int, *group: Any) -> Encoding:
            encoding: Encoding = self.networks[index](*group)
            return encoding

        return encode_in_groups(groups, encode_group, observed, sessions, patch_mask, n_masked)
