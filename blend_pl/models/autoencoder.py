"""The patch transformer as a masked auto-encoder of many sessions (Erturk et al., NeurIPS 2025)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.models.base import Encoding
from blend_pl.models.layers.grouping import encode_in_groups
from blend_pl.models.layers.patch_table import PatchTable
from blend_pl.models.layers.patches import ValueEmbedding, WaveformPatches, patchify, unpatchify
from blend_pl.models.layers.rotary_transformer import RotaryTransformer
from blend_pl.models.session_network import SessionDims, SessionNetwork


class PatchAutoencoder(SessionNetwork):
    """Encodes the visible patches of recordings and predicts all of them.

    A token is one patch of channels in one bin. Sessions share all weights but a vector a patch. The encoder sees
    visible tokens alone; a smaller predictor sees them and a mask token in the place of each hidden one. Rows of a
    batch whose sessions have equally many patches are run together, so that nothing is padded.

    Args:
        dims: sizes, with the sessions.
        patch: channels of a patch.
        embedding: builds the value embedder from (patch, width).
        d_model: width of a token, d.
        num_layers: layers of the encoder.
        num_heads: attention heads of the encoder.
        predictor_d_model: width of the predictor.
        predictor_num_layers: layers of the predictor.
        predictor_num_heads: attention heads of the predictor.
        dropout: dropout of what layers add.
        rope_base: base of the rotary positions; a smaller one tells nearer bins apart.
    """

    def __init__(
        self,
        dims: SessionDims,
        patch: int = 32,
        embedding: Callable[[int, int], ValueEmbedding] = WaveformPatches,
        d_model: int = 256,
        num_layers: int = 10,
        num_heads: int = 8,
        predictor_d_model: int = 192,
        predictor_num_layers: int = 4,
        predictor_num_heads: int = 8,
        dropout: float = 0.0,
        rope_base: float = 10_000.0,
    ) -> None:
        super().__init__()
        for dim, n_heads in ((d_model, num_heads), (predictor_d_model, predictor_num_heads)):
            if dim % (2 * n_heads):
                raise ConfigError(f"{n_heads} heads do not divide a width of {dim} into even parts; choose others")
        self.patch, self.d_model = patch, d_model
        self.table = PatchTable(dims.channels_per_session, patch, d_model)
        self.embedding = embedding(patch, d_model)
        build_transformer = partial(RotaryTransformer, dropout=dropout, rope_base=rope_base)
        self.encoder = build_transformer(d_model, num_layers, num_heads)
        self.predictor = build_transformer(predictor_d_model, predictor_num_layers, predictor_num_heads)
        self.to_predictor = nn.Linear(d_model, predictor_d_model)
        self.position_proj = nn.Linear(d_model, predictor_d_model, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(predictor_d_model))
        self.readout = nn.Linear(predictor_d_model, patch)

    def n_patches(self, session: str) -> int:
        return self.table.n_patches(session)

    def register_session(self, name: str, channels: int, related_sessions: Sequence[str] = ()) -> None:
        self.table.register(name, channels, related_sessions)

    def init_from(self, other: SessionNetwork) -> None:
        if not isinstance(other, PatchAutoencoder):
            raise ConfigError("one network of all sessions cannot begin as several; name a model with one network")
        state, other_state = self.state_dict(), other.state_dict()
        shared = {name: weight for name, weight in other_state.items() if name != "table.weight"}
        if any(name not in state or state[name].shape != weight.shape for name, weight in shared.items()):
            raise ConfigError("the pretrained network has other sizes; give model.backbone the same settings")
        self.load_state_dict(shared, strict=False)
        for session in self.table.channels:
            if session in other.table.channels:
                with torch.no_grad():
                    self.table.session_embeddings(session).copy_(other.table.session_embeddings(session))

    def forward(
        self,
        observed: Tensor,
        sessions: Sequence[str],
        patch_mask: Tensor | None = None,
        n_masked: Sequence[int] | None = None,
    ) -> Encoding:
        """Encodes segments.

        Args:
            observed: (B, T, C) values; a session's channels come first, what is behind them is not read.
            sessions: name of each segment's session.
            patch_mask: (B, T, P) bool, tokens that are dropped, equally many in rows of equally many patches; None for
                none. Their values are not read.
            n_masked: how many tokens of each segment are; None to count them, for which the host waits.

        Returns:
            Prediction (B, T, C), 0 where a session has no channel; latents (B, T, width), the mean over the visible
            patches of a bin; `latents_valid`, whether there were any.
        """
        batch, bins, channels = observed.shape
        if not batch:
            return Encoding(observed.new_zeros(0, bins, channels), latents=observed.new_zeros(0, bins, self.d_model))
        return encode_in_groups(
            self.table.rows_by_n_patches(sessions), self._encode_group, observed, sessions, patch_mask, n_masked
        )

    def _encode_group(
        self,
        n_patches: int,
        observed: Tensor,
        sessions: Sequence[str],
        patch_mask: Tensor | None,
        n_masked: Sequence[int] | None,
    ) -> Encoding:
        """Encodes rows that all have P patches."""
        channels = observed.shape[-1]
        patch_embeddings, channel_mask = self.table(sessions), self.table.channel_mask(sessions)
        patch_mask = None if patch_mask is None else patch_mask[..., :n_patches]
        tokens = self.embedding(patchify(observed, self.patch, n_patches, patch_mask), channel_mask)
        predictor_outputs, latents, latents_valid = self.reconstruct(tokens, patch_embeddings, patch_mask, n_masked)
        predictions = unpatchify(self.readout(predictor_outputs), channel_mask, channels)
        return Encoding(predictions, latents=latents, latents_valid=latents_valid)

    def reconstruct(
        self, tokens: Tensor, patch_embeddings: Tensor, patch_mask: Tensor | None, n_masked: Sequence[int] | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encodes the visible tokens and predicts all.

        Args:
            tokens: (B, T, P, width) embedded values.
            patch_embeddings: (B, P, width) of the patches.
            patch_mask: (B, T, P) bool, tokens that are dropped; None for none.
            n_masked: how many of each segment; None to count them.

        Returns:
            (B, T, P, predictor width), what is read out; latents (B, T, width) and where there are some, (B, T) bool or
            None for everywhere.
        """
        batch, bins, n_patches, _ = tokens.shape
        tokens = (tokens + patch_embeddings[:, None]).flatten(1, 2)
        times = torch.arange(bins, device=tokens.device).repeat_interleave(n_patches)[None]
        latents_valid = None
        if patch_mask is None:
            encoded = self.encoder(tokens, times)
            latents = encoded.unflatten(1, (bins, n_patches)).mean(2)
            predictions = self.to_predictor(encoded)
        else:
            visible_positions = visible_indices(patch_mask.flatten(1), n_masked)
            gather_indices = visible_positions[..., None].expand(-1, -1, tokens.shape[-1])
            encoded = self.encoder(tokens.gather(1, gather_indices), times[0][visible_positions])
            latents, latents_valid = mean_over_patches(encoded, times[0][visible_positions], bins)
            projected = self.to_predictor(encoded)
            predictions = self.mask_token.to(projected.dtype).expand(batch, bins * n_patches, -1)
            predictions = predictions.scatter(
                1, visible_positions[..., None].expand(-1, -1, projected.shape[-1]), projected
            )
        positions = self.position_proj(patch_embeddings)[:, None].expand(-1, bins, -1, -1).flatten(1, 2)
        return self.predictor(predictions + positions, times).unflatten(1, (bins, n_patches)), latents, latents_valid


def visible_indices(token_mask: Tensor, n_masked: Sequence[int] | None = None) -> Tensor:
    """(B, K) places of the visible of (B, L) tokens, in order.

    Args:
        token_mask: (B, L) bool, the others.
        n_masked: how many of each row are hidden; None to count them.

    Raises:
        ValueError: rows have different numbers of them.
    """
    n_masked_by_row = token_mask.sum(1).tolist() if n_masked is None else n_masked
    fewest, most = (token_mask.shape[1] - n for n in (max(n_masked_by_row), min(n_masked_by_row)))
    if fewest != most:
        raise ValueError(f"rows of equally many tokens show between {fewest} and {most}; hide equally many in each")
    return token_mask.long().argsort(dim=1, stable=True)[:, :most].sort(dim=1).values


def mean_over_patches(tokens: Tensor, times: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Mean over the tokens of each bin.

    Args:
        tokens: (B, K, width).
        times: (B, K) bin of each.
        bins: T.

    Returns:
        (B, T, width), 0 where there are none; (B, T) bool, where there are some.
    """
    shape = tokens.shape[0], bins
    count = tokens.new_zeros(shape).scatter_add_(1, times, torch.ones_like(tokens[..., 0]))
    scatter_indices = times[..., None].expand_as(tokens)
    total = tokens.new_zeros(*shape, tokens.shape[-1]).scatter_add(1, scatter_indices, tokens)
    return total / count.clamp(min=1)[..., None], count > 0
