"""Learned embeddings of the patches of each session."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from blend_pl.errors import DataError
from blend_pl.models.layers.grouping import group_rows
from blend_pl.utils.device import to_device_async


class PatchTable(nn.Module):
    """Learned vector for each patch of each session: the only weights that are specific to a session.

    Args:
        channels_per_session: session name -> number of channels.
        patch: number of channels of a patch.
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
        """Returns P, the number of patches of a session.

        Raises:
            DataError: the session is not registered.
        """
        if name not in self.channels:
            raise DataError(f"the session {name} is not registered in this network; call register_session first")
        return -(-self.channels[name] // self.patch)

    def register(self, name: str, channels: int, related_sessions: Sequence[str] = ()) -> None:
        """Adds a session.

        Args:
            name: name of the session.
            channels: number of channels, at least 1.
            related_sessions: registered sessions; the new vectors are the mean of theirs, patch by patch. Random
                vectors if empty.

        Raises:
            DataError: the session is registered already or has no channels, or a related session is not registered.
        """
        if name in self.channels:
            raise DataError(f"the session {name} is registered already; choose another name")
        if channels < 1:
            raise DataError(f"the session {name} has no channels; exclude it")
        n_patches = -(-channels // self.patch)
        d_model, device = self.weight.shape[1], self.weight.device
        rows = torch.randn(n_patches, d_model, device=device) * d_model**-0.5
        if related_sessions:
            similar_embeddings = [self.session_embeddings(other).detach() for other in related_sessions]
            for index in range(n_patches):
                # Patches beyond the last patch of all related sessions use their last patches.
                aligned_vectors = [vectors[index] for vectors in similar_embeddings if index < len(vectors)] or [
                    v[-1] for v in similar_embeddings
                ]
                rows[index] = torch.stack(aligned_vectors).mean(0)
        self.offsets[name], self.channels[name] = len(self.weight), channels
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), rows]), self.weight.requires_grad)

    def session_embeddings(self, name: str) -> Tensor:
        """Returns the vectors (P, d_model) of a session."""
        n_patches = self.n_patches(name)
        return self.weight[self.offsets[name] : self.offsets[name] + n_patches]

    def forward(self, sessions: Sequence[str]) -> Tensor:
        """Returns the vectors (B, P, d_model) of sessions with the same number of patches."""
        n_patches = self.n_patches(sessions[0])
        offsets = to_device_async([self.offsets[name] for name in sessions], self.weight.device)
        return self.weight[offsets[:, None] + torch.arange(n_patches, device=offsets.device)]

    def channel_mask(self, sessions: Sequence[str]) -> Tensor:
        """Returns (B, P, patch) bool, True for channels that exist, of sessions with the same number of patches."""
        channels = to_device_async([self.channels[name] for name in sessions], self.weight.device)
        channel_indices = torch.arange(self.n_patches(sessions[0]) * self.patch, device=channels.device)
        mask = channel_indices < channels[:, None]
        return torch.unflatten(mask, 1, (-1, self.patch))

    def rows_by_n_patches(self, sessions: Sequence[str]) -> dict[int, list[int]]:
        """Returns the rows of a batch by number of patches of their session, so that groups need no padding."""
        return group_rows(self.n_patches(name) for name in sessions)
