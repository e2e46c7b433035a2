"""NeuPRINT (Mi et al., NeurIPS 2023): a network shared by all cells, with a time-invariant embedding per cell."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from blend_pl.models.base import Dims, Encoding
from blend_pl.models.layers.attention import AttentionWindow, SelfAttention
from blend_pl.models.layers.dropout import fast_dropout
from blend_pl.models.layers.embedding import SinusoidalPositions
from blend_pl.models.layers.population_summary import PopulationSummary
from blend_pl.models.layers.transformer import TransformerLayer
from blend_pl.utils.checks import COUNT, DROPOUT, NON_NEGATIVE, check_range

POPULATION_CONTEXT_DIM = 4
LOG_VARIANCE_RANGE = (-7.0, 7.0)


class NeuPRINT(nn.Module):
    """Predicts cells from their activity, population statistics, behavior and embedding (Mi et al., 2023).

    A token is one cell in one frame: [w x, embedding, behavior, population context] + position, of width
    5 + 64 + 3 + 4 = 76 by default. Cells share all weights except the embedding and do not attend to each other; a
    frame attends to itself and the `frames_back` previous frames. Without behavior, a learned null token replaces it,
    or with `summarize` a summary of the population, which can learn to decode behavior.

    Args:
        dims: sizes; `neurons` is the number of embeddings, `bins` the number of frames of a window.
        size: length of an embedding.
        std: standard deviation of the initial embeddings.
        activity: width of the projected activity in a token.
        behavior_width: width of behavior in a token; 0 omits it, which only a student supports.
        behavior: builds the map of behavior (D) to these channels from (D, behavior_width); None for
            `BehaviorProjection`. Used only if `dims.context` > 0.
        num_layers: number of layers.
        num_heads: number of attention heads; need not divide the width of a token.
        dim_feedforward: hidden units of the feed-forward blocks.
        dropout: dropout in the layers.
        frames_back: number of previous frames that a frame attends to.
        summarize: replace behavior by a `PopulationSummary` plus the null token, if `dims.context` is 0.
        variance: also predict a log-variance, which `likelihoods.Gaussian` requires.
        positions: builds the position vectors from (T, d_model).

    Example:
        >>> import torch
        >>> from blend_pl.models import Dims, NeuPRINT
        >>> model = NeuPRINT(Dims(channels=9, neurons=9, observed_bins=20, bins=20), dim_feedforward=32)
        >>> encoding = model(torch.randn(2, 20, 3), torch.tensor([0, 4, 8]), torch.zeros(2, 20, 3, 4))
        >>> encoding.prediction.shape, encoding.latents.shape
        (torch.Size([2, 20, 3]), torch.Size([2, 20, 76]))
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
        summarize: bool = False,
        variance: bool = False,
        positions: Callable[[int, int], nn.Module] = SinusoidalPositions,
    ) -> None:
        super().__init__()
        check_range(COUNT, size=size, activity=activity, num_layers=num_layers)
        check_range(NON_NEGATIVE, behavior_width=behavior_width)
        check_range(COUNT, num_heads=num_heads, dim_feedforward=dim_feedforward)
        check_range(NON_NEGATIVE, std=std, frames_back=frames_back)
        check_range(DROPOUT, dropout=dropout)
        self.embedding = nn.Embedding(dims.neurons, size)
        nn.init.normal_(self.embedding.weight, std=std)
        self.activity = nn.Linear(1, activity)
        self.behavior = (behavior or BehaviorProjection)(dims.context, behavior_width) if dims.context else None
        if self.behavior is None:
            self.null = nn.Parameter(torch.zeros(behavior_width))
        has_summary = summarize and self.behavior is None
        self.summary = PopulationSummary(dims.neurons, behavior_width) if has_summary else None
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
        """Encodes windows of a subset of the cells.

        Args:
            observed: (B, T, N) activity.
            neurons: (N,) indices of the embeddings of the cells.
            population_context: (B, T, N, 4) statistics of the population.
            context: (B, T, D) behavior, if `dims.context` > 0.

        Returns:
            Prediction (B, T, N), the expected activity; features (B, N * T, d_model), one token per cell and frame;
            latents (B, T, d_model), the mean over cells.
        """
        batch, frames, n_neurons = observed.shape
        behavior = self.null if self.behavior is None else self.behavior(context)[:, None]
        if self.summary is not None:
            behavior = behavior + self.summary(observed, neurons).transpose(1, 2)
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
    """Self-attention to the current frame and a few previous frames, without computing other scores.

    Args:
        d_model: width of a token.
        num_heads: number of heads.
        dropout: dropout of the attention weights.
        frames_back: number of previous frames.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float, frames_back: int) -> None:
        super().__init__(d_model, num_heads, dropout)
        self.frames_back = frames_back

    def forward(self, tokens: Tensor, window: AttentionWindow | None = None) -> Tensor:
        """Maps tokens (B, T, d_model) to (B, T, d_model); `window` is ignored."""
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
    """Returns scaled products (B, T, heads) of queries with keys `lag` frames earlier; -inf before the first frame."""
    products = (q[:, lag:] * k[:, : k.shape[1] - lag]).sum(-1) * q.shape[-1] ** -0.5
    return nn.functional.pad(products, (0, 0, lag, 0), value=-torch.inf)


class BehaviorProjection(nn.Linear):
    """Linear map of behavioral channels with orthogonal initial weights.

    Args:
        context_dim: D, number of behavioral channels.
        behavior_width: number of output channels.
    """

    def __init__(self, context_dim: int, behavior_width: int) -> None:
        super().__init__(context_dim, behavior_width)
        nn.init.orthogonal_(self.weight)


class StateAsNumber(nn.Module):
    """Encodes behavior as the code of Mi et al. (2023): continuous channels, and the category of the state as a number.

    Args:
        context_dim: D, number of continuous channels plus three one-hot channels of the state.
        behavior_width: D - 2.
    """

    def __init__(self, context_dim: int, behavior_width: int) -> None:
        super().__init__()
        if behavior_width != context_dim - 2:
            raise ValueError(
                f"StateAsNumber maps {context_dim} channels to {context_dim - 2}, not {behavior_width}; "
                f"set model.backbone.behavior_width to {context_dim - 2}"
            )

    def forward(self, behavior: Tensor) -> Tensor:
        """Maps (B, T, D) to (B, T, D - 2)."""
        state = behavior[..., -2:-1] + 2 * behavior[..., -1:]
        return torch.cat([behavior[..., :-3], state], dim=-1)
