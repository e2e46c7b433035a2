"""The patch transformer as a masked auto-encoder of many sessions (Erturk et al., NeurIPS 2025)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.models.base import Encoding
from blend_pl.models.layers.grouping import encode_in_groups
from blend_pl.models.layers.patch_transformer import TimedTransformer
from blend_pl.models.layers.patches import PatchTable, SessionDims, SessionNetwork, ValueEmbedding, WaveformPatches


class PatchAutoencoder(SessionNetwork):
    """Encodes the visible patches of recordings and predicts all of them.

    A token is one patch of channels in one bin. Sessions share all weights but a vector a patch. The encoder sees
    visible tokens alone; a smaller predictor sees them and a mask token in the place of each hidden one. Rows of a
    batch whose sessions have equally many patches are run together, so that nothing is padded.

    Args:
        dims: sizes, with the sessions.
        patch: channels of a patch.
        embedding: builds the value embedder from (patch, width).
        width: width of a token, d.
        layers: layers of the encoder.
        heads: attention heads of the encoder.
        predictor_width: width of the predictor.
        predictor_layers: layers of the predictor.
        predictor_heads: attention heads of the predictor.
        dropout: dropout of what layers add.
        rope_base: base of the rotary positions; a smaller one tells nearer bins apart.
    """

    def __init__(
        self,
        dims: SessionDims,
        patch: int = 32,
        embedding: Callable[[int, int], ValueEmbedding] = WaveformPatches,
        width: int = 256,
        layers: int = 10,
        heads: int = 8,
        predictor_width: int = 192,
        predictor_layers: int = 4,
        predictor_heads: int = 8,
        dropout: float = 0.0,
        rope_base: float = 10_000.0,
    ) -> None:
        super().__init__()
        for each, parts in ((width, heads), (predictor_width, predictor_heads)):
            if each % (2 * parts):
                raise ConfigError(f"{parts} heads do not divide a width of {each} into even parts; choose others")
        self.patch, self.width = patch, width
        self.table = PatchTable(dims.sessions, patch, width)
        self.embedding = embedding(patch, width)
        transformer = partial(TimedTransformer, dropout=dropout, rope_base=rope_base)
        self.encoder = transformer(width, layers, heads)
        self.predictor = transformer(predictor_width, predictor_layers, predictor_heads)
        self.narrow = nn.Linear(width, predictor_width)
        self.place = nn.Linear(width, predictor_width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(predictor_width))
        self.readout = nn.Linear(predictor_width, patch)

    def patches(self, session: str) -> int:
        return self.table.patches(session)

    def register_session(self, name: str, channels: int, like: Sequence[str] = ()) -> None:
        self.table.register(name, channels, like)

    def adopt(self, other: SessionNetwork) -> None:
        if not isinstance(other, PatchAutoencoder):
            raise ConfigError("one network of all sessions cannot begin as several; name a model with one network")
        own, theirs = self.state_dict(), other.state_dict()
        shared = {name: weight for name, weight in theirs.items() if name != "table.weight"}
        if any(name not in own or own[name].shape != weight.shape for name, weight in shared.items()):
            raise ConfigError("the pretrained network has other sizes; give model.backbone the same settings")
        self.load_state_dict(shared, strict=False)
        for session in self.table.channels:
            if session in other.table.channels:
                with torch.no_grad():
                    self.table.rows(session).copy_(other.table.rows(session))

    def forward(
        self,
        observed: Tensor,
        sessions: Sequence[str],
        hidden: Tensor | None = None,
        dropped: Sequence[int] | None = None,
    ) -> Encoding:
        """Encodes segments.

        Args:
            observed: (B, T, C) values; a session's channels come first, what is behind them is not read.
            sessions: name of each segment's session.
            hidden: (B, T, P) bool, tokens that are dropped, equally many in rows of equally many patches; None for
                none. Their values are not read.
            dropped: how many tokens of each segment are; None to count them, for which the host waits.

        Returns:
            Prediction (B, T, C), 0 where a session has no channel; latents (B, T, width), the mean over the visible
            patches of a bin; `latents_valid`, whether there were any.
        """
        batch, bins, channels = observed.shape
        if not batch:
            return Encoding(observed.new_zeros(0, bins, channels), latents=observed.new_zeros(0, bins, self.width))
        return encode_in_groups(self.table.groups(sessions), self._run, observed, sessions, hidden, dropped)

    def _run(
        self,
        patches: int,
        observed: Tensor,
        sessions: Sequence[str],
        hidden: Tensor | None,
        dropped: Sequence[int] | None,
    ) -> Encoding:
        """Encodes rows that all have P patches."""
        channels = observed.shape[-1]
        table, present = self.table(sessions), self.table.present(sessions)
        hidden = None if hidden is None else hidden[..., :patches]
        tokens = self.embedding(cut(observed, self.patch, patches, hidden), present)
        guesses, latents, valid = self.reconstruct(tokens, table, hidden, dropped)
        predicted = whole(self.readout(guesses), present, channels)
        return Encoding(predicted, latents=latents, latents_valid=valid)

    def reconstruct(
        self, tokens: Tensor, vectors: Tensor, hidden: Tensor | None, dropped: Sequence[int] | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encodes the visible tokens and predicts all.

        Args:
            tokens: (B, T, P, width) embedded values.
            vectors: (B, P, width) of the patches.
            hidden: (B, T, P) bool, tokens that are dropped; None for none.
            dropped: how many of each segment; None to count them.

        Returns:
            (B, T, P, predictor width), what is read out; latents (B, T, width) and where there are some, (B, T) bool or
            None for everywhere.
        """
        batch, bins, patches, _ = tokens.shape
        tokens = (tokens + vectors[:, None]).flatten(1, 2)
        times = torch.arange(bins, device=tokens.device).repeat_interleave(patches)[None]
        valid = None
        if hidden is None:
            encoded = self.encoder(tokens, times)
            latents = encoded.unflatten(1, (bins, patches)).mean(2)
            guesses = self.narrow(encoded)
        else:
            seen = visible(hidden.flatten(1), dropped)
            wide = seen[..., None].expand(-1, -1, tokens.shape[-1])
            encoded = self.encoder(tokens.gather(1, wide), times[0][seen])
            latents, valid = pooled(encoded, times[0][seen], bins)
            narrow = self.narrow(encoded)
            guesses = self.mask_token.to(narrow.dtype).expand(batch, bins * patches, -1)
            guesses = guesses.scatter(1, seen[..., None].expand(-1, -1, narrow.shape[-1]), narrow)
        places = self.place(vectors)[:, None].expand(-1, bins, -1, -1).flatten(1, 2)
        return self.predictor(guesses + places, times).unflatten(1, (bins, patches)), latents, valid


def cut(values: Tensor, patch: int, patches: int, hidden: Tensor | None) -> Tensor:
    """(B, T, P, patch) patches of (B, T, C) values, 0 behind the last one and where they are hidden, (B, T, P)."""
    wanted = patches * patch
    values = nn.functional.pad(values, (0, max(0, wanted - values.shape[-1])))[..., :wanted]
    values = values.unflatten(-1, (patches, patch))
    # A convolution would carry them into their neighbours.
    return values if hidden is None else values.masked_fill(hidden[..., None], 0.0)


def whole(patched: Tensor, present: Tensor, channels: int) -> Tensor:
    """(B, T, channels) of (B, T, P, patch), 0 where `present` (B, P, patch) says that there is no channel."""
    values = patched.masked_fill(~present[:, None], 0.0).flatten(-2)
    return nn.functional.pad(values, (0, max(0, channels - values.shape[-1])))[..., :channels]


def visible(hidden: Tensor, dropped: Sequence[int] | None = None) -> Tensor:
    """(B, K) places of the visible of (B, L) tokens, in order.

    Args:
        hidden: (B, L) bool, the others.
        dropped: how many of each row are hidden; None to count them.

    Raises:
        ValueError: rows have different numbers of them.
    """
    counts = hidden.sum(1).tolist() if dropped is None else dropped
    fewest, most = (hidden.shape[1] - number for number in (max(counts), min(counts)))
    if fewest != most:
        raise ValueError(f"rows of equally many tokens show between {fewest} and {most}; hide equally many in each")
    return hidden.long().argsort(dim=1, stable=True)[:, :most].sort(dim=1).values


def pooled(tokens: Tensor, times: Tensor, bins: int) -> tuple[Tensor, Tensor]:
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
    wide = times[..., None].expand_as(tokens)
    total = tokens.new_zeros(*shape, tokens.shape[-1]).scatter_add(1, wide, tokens)
    return total / count.clamp(min=1)[..., None], count > 0
