"""Spikes and field potentials in one masked auto-encoder (the multimodal comparison of Erturk et al., NeurIPS 2025)."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.models.autoencoder import PatchAutoencoder, cut, whole
from blend_pl.models.base import Encoding
from blend_pl.models.layers.grouping import encode_in_groups, grouped
from blend_pl.models.layers.patches import CountPatches, PatchTable, SessionNetwork


class MultimodalAutoencoder(SessionNetwork):
    """Patches of units beside the patches of channels, in one encoder and one predictor.

    Latents are the plain mean over all visible patches of a bin, of whichever kind.

    Args:
        lfp: the network of the LFP, whose encoder and predictor spikes go through as well.
        units: units of each session by its name, the same sessions.
        unit_patch: neurons of a patch.
    """

    def __init__(self, lfp: PatchAutoencoder, units: Mapping[str, int], unit_patch: int) -> None:
        super().__init__()
        self.lfp = lfp
        self.patch, self.width = lfp.patch, lfp.width
        self.units = PatchTable(units, unit_patch, lfp.width)
        self.embedding = CountPatches(unit_patch, lfp.width)
        self.readout = nn.Linear(lfp.readout.in_features, unit_patch)

    def patches(self, session: str) -> int:
        """Patches of channels; those of units are `units.patches(session)`."""
        return self.lfp.patches(session)

    def register_session(self, name: str, channels: int, like: Sequence[str] = (), units: int = 0) -> None:
        """Makes room for a session with units too; see `PatchTable.register`."""
        self.units.register(name, units, like)
        self.lfp.register_session(name, channels, like)

    def adopt(self, other: SessionNetwork) -> None:
        raise ConfigError("a multimodal network is trained from the start; take `pretrained` out of its experiment")

    def forward(
        self,
        observed: Tensor,
        sessions: Sequence[str],
        hidden: Tensor | None = None,
        n_units: int = 0,
        dropped: Sequence[int] | None = None,
    ) -> Encoding:
        """Encodes segments; see `PatchAutoencoder.forward`.

        Args:
            observed: (B, T, N + C) counts, then field potentials.
            sessions: name of each segment's session.
            hidden: (B, T, Q + P) bool, dropped patches of units, then of channels; N units fill Q patches.
            n_units: N.
            dropped: how many patches of each segment are, of both kinds together; None to count them.

        Returns:
            Prediction (B, T, N + C), latents (B, T, width) and `latents_valid`.
        """
        batch, bins, columns = observed.shape
        if not batch:
            return Encoding(observed.new_zeros(0, bins, columns), latents=observed.new_zeros(0, bins, self.width))
        groups = grouped((self.units.patches(name), self.patches(name)) for name in sessions)
        return encode_in_groups(groups, partial(self._run, n_units), observed, sessions, hidden, dropped)

    def _run(
        self,
        n_units: int,
        patches: tuple[int, int],
        observed: Tensor,
        sessions: Sequence[str],
        hidden: Tensor | None,
        dropped: Sequence[int] | None,
    ) -> Encoding:
        """Encodes rows that all have as many patches of either kind."""
        kinds = (
            (self.units, self.embedding, self.readout, n_units),
            (self.lfp.table, self.lfp.embedding, self.lfp.readout, observed.shape[-1] - n_units),
        )
        values = observed.split([columns for *_, columns in kinds], -1)
        marks: Sequence[Tensor | None] = (None, None)
        if hidden is not None:
            behind = -(-n_units // self.units.patch)
            hidden = torch.cat([hidden[..., : patches[0]], hidden[..., behind : behind + patches[1]]], -1)
            marks = hidden.split(patches, -1)
        present = [table.present(sessions) for table, *_ in kinds]
        tokens = [
            embedding(cut(values[kind], table.patch, patches[kind], marks[kind]), present[kind])
            for kind, (table, embedding, *_) in enumerate(kinds)
        ]
        vectors = torch.cat([table(sessions) for table, *_ in kinds], 1)
        guesses, latents, valid = self.lfp.reconstruct(torch.cat(tokens, 2), vectors, hidden, dropped)
        predicted = [
            whole(readout(guess), there, columns)
            for guess, there, (*_, readout, columns) in zip(guesses.split(patches, 2), present, kinds, strict=True)
        ]
        return Encoding(torch.cat(predicted, -1), latents=latents, latents_valid=valid)
