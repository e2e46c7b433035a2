"""NeuPRINT (Mi et al., NeurIPS 2023): one shared network for all cells, and a time-invariant embedding for each."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from blend_pl.models.base import Dims, Encoding
from blend_pl.models.layers.attention import AttentionWindow, SelfAttention
from blend_pl.models.layers.dropout import fast_dropout
from blend_pl.models.layers.embedding import SinusoidalPositions
from blend_pl.models.layers.transformer import TransformerLayer

POPULATION_CONTEXT_DIM = 4
LOG_VARIANCE_RANGE = (-7.0, 7.0)


class NeuPRINT(nn.Module):
    """Predicts a cell's activity from its own, what surrounds it, and a vector that says which cell it is.

    A token is one cell in one frame: [w x, embedding, behaviour, surroundings] + position, of width 5 + 64 + 3 + 4 = 76
    by default. Cells share all weights but the embedding and never attend to one another; a frame attends to itself
    and the frame before. Where the network is built without behaviour, a learned null token takes its place.

    Args:
        dims: sizes; `neurons` rows of the table of embeddings, `bins` frames of a window.
        size: length of an embedding.
        std: standard deviation of the initial embeddings.
        activity: channels that a cell's activity is spread over.
        behavior_width: channels that behaviour takes in a token; 0 leaves no room for it (and needs a student).
        behavior: from behaviour (D) to these channels, built from (D, behavior_width); None for `BehaviorProjection`. Used only
            where `dims.context` > 0.
        num_layers: number of layers.
        num_heads: attention heads; need not divide the width.
        dim_feedforward: hidden units of the feed-forward parts.
        dropout: dropout in the layers.
        frames_back: how many frames back attention looks.
        variance: predict a log-variance too, as `likelihoods.Gaussian` needs.
        positions: position vectors, built from (T, width).
    """

    def __init__(
        self,
        dims: Dims,
        size: int = 64,
        std: float = 1.0,
        activity: int = 5,
        behavior_width: int = 3,
        behavior: Callable[[int, int], nn.Module] | None = None,
        num_layers: int = 1,
        num_heads: int = 2,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        frames_back: int = 1,
        variance: bool = False,
        positions: Callable[[int, int], nn.Module] = SinusoidalPositions,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(dims.neurons, size)
        nn.init.normal_(self.embedding.weight, std=std)
        self.activity = nn.Linear(1, activity)
        self.behavior = (behavior or BehaviorProjection)(dims.context, behavior_width) if dims.context else None
        if self.behavior is None:
            self.null = nn.Parameter(torch.zeros(behavior_width))
        d_model = activity + size + behavior_width + POPULATION_CONTEXT_DIM
        self.positions = positions(dims.bins, d_model)
        self.layers = nn.ModuleList(
            TransformerLayer(d_model, num_heads, dim_feedforward, dropout) for _ in range(num_layers)
        )
        for layer in self.layers:
            layer.attention = LocalAttention(d_model, num_heads, dropout, frames_back)
        self.norm = nn.LayerNorm(d_model)
        self.readout = nn.Linear(d_model, 2 if variance else 1)

    def forward(
        self, observed: Tensor, neurons: Tensor, population_context: Tensor, context: Tensor | None = None
    ) -> Encoding:
        """Encodes windows of some cells.

        Args:
            observed: (B, T, N) activity.
            neurons: (N,) rows of the cells in the table of embeddings.
            population_context: (B, T, N, 4).
            context: (B, T, D) behaviour, if built for it.

        Returns:
            Prediction (B, T, N), the expected activity; features (B, N * T, width), a token a cell and frame; latents
            (B, T, width), their mean over cells.
        """
        batch, frames, n_neurons = observed.shape
        behavior = self.null if self.behavior is None else self.behavior(context)[:, None]
        shape = (batch, n_neurons, frames, -1)
        token_features = [
            self.activity(observed.transpose(1, 2)[..., None]),
            self.embedding(neurons)[:, None].expand(shape),
            behavior.expand(shape),
            population_context.transpose(1, 2),
        ]
        tokens = (torch.cat(token_features, dim=-1) + self.positions()[:frames]).flatten(0, 1)
        features = []
        for layer in self.layers:
            tokens = layer(tokens)
            features.append(tokens.unflatten(0, (batch, n_neurons)).flatten(1, 2))
        latents = self.norm(tokens).unflatten(0, (batch, n_neurons)).transpose(1, 2)
        mean, *log_variances = self.readout(latents).unbind(-1)
        log_variance = log_variances[0].clamp(*LOG_VARIANCE_RANGE) if log_variances else None
        return Encoding(mean, features, latents.mean(2), log_variance=log_variance)


class LocalAttention(SelfAttention):
    """Self-attention to this frame and the few before, computed for these alone.

    Args:
        d_model: width of a token.
        num_heads: number of heads.
        dropout: dropout of the attention weights.
        frames_back: how many frames before.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float, frames_back: int) -> None:
        super().__init__(d_model, num_heads, dropout)
        self.frames_back = frames_back

    def forward(self, tokens: Tensor, window: AttentionWindow | None = None) -> Tensor:
        """Tokens (B, T, width) -> (B, T, width); there is no other window than its own."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        lags = range(min(self.frames_back + 1, tokens.shape[1]))
        scores = torch.stack([_lag_scores(q, k, lag) for lag in lags], dim=-1)
        weights = fast_dropout(scores.softmax(-1), self.dropout, self.training)
        attended = torch.zeros_like(v)
        for lag in lags:
            weighted_values = weights[:, lag:, :, lag, None] * v[:, : v.shape[1] - lag]
            attended = attended + nn.functional.pad(weighted_values, (0, 0, 0, 0, lag, 0))
        projected: Tensor = self.out_proj(attended.flatten(-2))
        return projected


def _lag_scores(q: Tensor, k: Tensor, lag: int) -> Tensor:
    """(B, T, heads) scaled products of a frame's query with the key `lag` frames before; -inf where there is none."""
    products = (q[:, lag:] * k[:, : k.shape[1] - lag]).sum(-1) * q.shape[-1] ** -0.5
    return nn.functional.pad(products, (0, 0, lag, 0), value=-torch.inf)


class BehaviorProjection(nn.Linear):
    """A learned mixture of behavioural channels, which at first keeps apart as many of them as it can.

    Args:
        context_dim: D.
        behavior_width: channels that the mixture has.
    """

    def __init__(self, context_dim: int, behavior_width: int) -> None:
        super().__init__(context_dim, behavior_width)
        nn.init.orthogonal_(self.weight)


class StateAsNumber(nn.Module):
    """Behaviour as stock NeuPRINT reads it: channels as they are, and the state, which is a category, as a number.

    Args:
        context_dim: D, continuous channels before three states.
        behavior_width: D - 2.
    """

    def __init__(self, context_dim: int, behavior_width: int) -> None:
        super().__init__()
        if behavior_width != context_dim - 2:
            raise ValueError(
                f"StateAsNumber makes {context_dim - 2} channels of {context_dim}; set model.backbone.behavior_width to that"
            )

    def forward(self, behavior: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D - 2)."""
        state = behavior[..., -2:-1] + 2 * behavior[..., -1:]
        return torch.cat([behavior[..., :-3], state], dim=-1)
