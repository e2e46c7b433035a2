"""Masked autoencoder of several sessions with a patch transformer (Erturk et al., NeurIPS 2025)."""

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
from blend_pl.utils.checks import COUNT, DROPOUT, POSITIVE, check_range


class PatchAutoencoder(SessionNetwork):
    """Encodes the visible patches of recordings and predicts all patches (Erturk et al., 2025).

    A token is one patch of channels in one bin. Sessions share all weights except one vector per patch. The input of
    the encoder is the visible tokens; a smaller predictor receives the encoded tokens and a mask token for each masked
    one. Rows of a batch with the same number of patches are processed together, so that no padding is needed.

    Args:
        dims: sizes, including the sessions.
        patch: number of channels of a patch.
        embedding: builds the value embedding from (patch, d_model).
        d_model: width of a token of the encoder.
        num_layers: number of layers of the encoder.
        num_heads: number of attention heads of the encoder.
        predictor_d_model: width of a token of the predictor.
        predictor_num_layers: number of layers of the predictor.
        predictor_num_heads: number of attention heads of the predictor.
        dropout: dropout of the residual branches.
        rope_base: base of the rotary positions; a smaller base increases the resolution in time.

    Raises:
        ConfigError: a width divided by its number of heads is not an even integer.

    Example:
        >>> dims = SessionDims.from_sessions({"monkey_1": 8, "monkey_2": 6}, bins=10)
        >>> model = PatchAutoencoder(dims, patch=4, d_model=16, num_layers=1, num_heads=2, predictor_d_model=16)
        >>> encoding = model(torch.randn(3, 10, 8), sessions=["monkey_1", "monkey_2", "monkey_1"])
        >>> encoding.prediction.shape, encoding.latents.shape
        (torch.Size([3, 10, 8]), torch.Size([3, 10, 16]))
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
        check_range(COUNT, patch=patch, d_model=d_model, num_layers=num_layers, num_heads=num_heads)
        check_range(COUNT, predictor_d_model=predictor_d_model, predictor_num_layers=predictor_num_layers)
        check_range(COUNT, predictor_num_heads=predictor_num_heads)
        check_range(DROPOUT, dropout=dropout)
        check_range(POSITIVE, rope_base=rope_base)
        for dim, n_heads in ((d_model, num_heads), (predictor_d_model, predictor_num_heads)):
            if dim % (2 * n_heads):
                raise ConfigError(
                    f"{n_heads} heads do not divide a width of {dim} into even parts; change d_model or num_heads"
                )
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
            raise ConfigError(
                "a network shared by sessions cannot be initialized from per-session networks; "
                "choose a pretrained model with one network"
            )
        state, other_state = self.state_dict(), other.state_dict()
        shared = {name: weight for name, weight in other_state.items() if name != "table.weight"}
        if any(name not in state or state[name].shape != weight.shape for name, weight in shared.items()):
            raise ConfigError("the pretrained network has other sizes; use its settings of model.backbone")
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
            observed: (B, T, C) values; columns after the channels of a session are ignored.
            sessions: session name of each segment.
            patch_mask: (B, T, P) bool, True for masked tokens (their values are ignored); the same number in all rows
                with the same number of patches. None for no mask.
            n_masked: number of masked tokens of each segment; None to count them, which synchronizes with the device.

        Returns:
            Prediction (B, T, C), 0 for columns without a channel; latents (B, T, d_model), the mean over the visible
            patches of a bin; `latents_valid`, True for bins with visible patches.
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
        """Encodes rows with P patches each."""
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
        """Encodes the visible tokens and predicts all tokens.

        Args:
            tokens: (B, T, P, d_model) embedded values.
            patch_embeddings: (B, P, d_model) vectors of the patches.
            patch_mask: (B, T, P) bool, True for masked tokens; None for no mask.
            n_masked: number of masked tokens of each segment; None to count them.

        Returns:
            Outputs of the predictor (B, T, P, predictor_d_model); latents (B, T, d_model); validity of the latents,
            (B, T) bool, or None if all are valid.
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
    """Returns the sorted positions (B, K) of the visible tokens.

    Args:
        token_mask: (B, L) bool, True for masked tokens.
        n_masked: number of masked tokens of each row; None to count them.

    Raises:
        ValueError: the number of masked tokens differs between rows.
    """
    n_masked_by_row = token_mask.sum(1).tolist() if n_masked is None else n_masked
    fewest, most = (token_mask.shape[1] - n for n in (max(n_masked_by_row), min(n_masked_by_row)))
    if fewest != most:
        raise ValueError(f"rows have between {fewest} and {most} visible tokens; mask the same number in each row")
    return token_mask.long().argsort(dim=1, stable=True)[:, :most].sort(dim=1).values


def mean_over_patches(tokens: Tensor, times: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Averages the tokens of each bin.

    Args:
        tokens: (B, K, d_model).
        times: (B, K) bin of each token.
        bins: T, number of bins.

    Returns:
        Means (B, T, d_model), 0 for bins without tokens; (B, T) bool, True for bins with tokens.
    """
    shape = tokens.shape[0], bins
    count = tokens.new_zeros(shape).scatter_add_(1, times, torch.ones_like(tokens[..., 0]))
    scatter_indices = times[..., None].expand_as(tokens)
    total = tokens.new_zeros(*shape, tokens.shape[-1]).scatter_add(1, scatter_indices, tokens)
    return total / count.clamp(min=1)[..., None], count > 0
