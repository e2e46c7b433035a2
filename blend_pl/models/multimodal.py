"""Masked autoencoder of spikes and field potentials (the multimodal comparison of Erturk et al., NeurIPS 2025)."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.models.autoencoder import PatchAutoencoder
from blend_pl.models.base import Encoding
from blend_pl.models.layers.grouping import encode_in_groups, group_rows
from blend_pl.models.layers.patch_table import PatchTable
from blend_pl.models.layers.patches import CountPatches, patchify, unpatchify
from blend_pl.models.session_network import SessionNetwork


class MultimodalAutoencoder(SessionNetwork):
    """Encodes patches of units and patches of LFP channels with a shared encoder and predictor (Erturk et al., 2025).

    Latents are the mean over all visible patches of a bin, of units and channels.

    Args:
        lfp: network of the LFP; its encoder and predictor also process the patches of units.
        units_per_session: session name -> number of units, for the sessions of `lfp`.
        unit_patch: number of units of a patch.
    """

    def __init__(self, lfp: PatchAutoencoder, units_per_session: Mapping[str, int], unit_patch: int) -> None:
        super().__init__()
        self.lfp = lfp
        self.patch, self.d_model = lfp.patch, lfp.d_model
        self.unit_table = PatchTable(units_per_session, unit_patch, lfp.d_model)
        self.embedding = CountPatches(unit_patch, lfp.d_model)
        self.readout = nn.Linear(lfp.readout.in_features, unit_patch)

    def n_patches(self, session: str) -> int:
        """Returns the number of patches of channels; `unit_table.n_patches` returns the number of patches of units."""
        return self.lfp.n_patches(session)

    def register_session(
        self, name: str, channels: int, related_sessions: Sequence[str] = (), n_units: int = 0
    ) -> None:
        """Adds a session with its units; see `PatchTable.register`."""
        self.unit_table.register(name, n_units, related_sessions)
        self.lfp.register_session(name, channels, related_sessions)

    def init_from(self, other: SessionNetwork) -> None:
        raise ConfigError(
            "a multimodal network cannot be initialized from another network; remove `pretrained` from its experiment"
        )

    def forward(
        self,
        observed: Tensor,
        sessions: Sequence[str],
        patch_mask: Tensor | None = None,
        n_units: int = 0,
        n_masked: Sequence[int] | None = None,
    ) -> Encoding:
        """Encodes segments; see `PatchAutoencoder.forward`.

        Args:
            observed: (B, T, N + C) counts, followed by field potentials.
            sessions: session name of each segment.
            patch_mask: (B, T, Q + P) bool, True for masked patches; Q patches of units, then P patches of channels.
            n_units: N, number of columns of counts.
            n_masked: number of masked patches of each segment, of units and channels; None to count them.

        Returns:
            Prediction (B, T, N + C), latents (B, T, d_model) and `latents_valid`.
        """
        batch, bins, columns = observed.shape
        if not batch:
            return Encoding(observed.new_zeros(0, bins, columns), latents=observed.new_zeros(0, bins, self.d_model))
        groups = group_rows((self.unit_table.n_patches(name), self.n_patches(name)) for name in sessions)
        return encode_in_groups(groups, partial(self._encode_group, n_units), observed, sessions, patch_mask, n_masked)

    def _encode_group(
        self,
        n_units: int,
        n_patches: tuple[int, int],
        observed: Tensor,
        sessions: Sequence[str],
        patch_mask: Tensor | None,
        n_masked: Sequence[int] | None,
    ) -> Encoding:
        """Encodes rows with the same numbers of patches of units and of channels."""
        modalities = (
            (self.unit_table, self.embedding, self.readout, n_units),
            (self.lfp.table, self.lfp.embedding, self.lfp.readout, observed.shape[-1] - n_units),
        )
        values = observed.split([n_columns for *_, n_columns in modalities], -1)
        modality_masks: Sequence[Tensor | None] = (None, None)
        if patch_mask is not None:
            first_lfp_patch = -(-n_units // self.unit_table.patch)
            patch_mask = torch.cat(
                [patch_mask[..., : n_patches[0]], patch_mask[..., first_lfp_patch : first_lfp_patch + n_patches[1]]], -1
            )
            modality_masks = patch_mask.split(n_patches, -1)
        channel_masks = [table.channel_mask(sessions) for table, *_ in modalities]
        tokens = [
            embedding(
                patchify(values[modality], table.patch, n_patches[modality], modality_masks[modality]),
                channel_masks[modality],
            )
            for modality, (table, embedding, *_) in enumerate(modalities)
        ]
        patch_embeddings = torch.cat([table(sessions) for table, *_ in modalities], 1)
        predictions, latents, latents_valid = self.lfp.reconstruct(
            torch.cat(tokens, 2), patch_embeddings, patch_mask, n_masked
        )
        modality_predictions = [
            unpatchify(readout(prediction), channel_mask, n_columns)
            for prediction, channel_mask, (*_, readout, n_columns) in zip(
                predictions.split(n_patches, 2), channel_masks, modalities, strict=True
            )
        ]
        return Encoding(torch.cat(modality_predictions, -1), latents=latents, latents_valid=latents_valid)
