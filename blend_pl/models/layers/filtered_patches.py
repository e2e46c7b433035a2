"""Embedding of waveforms by a fixed bank of temporal filters."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.models.layers.patches import ValueEmbedding
from blend_pl.utils.checks import DROPOUT, POSITIVE, check_range

TRUNCATION = 3.0
"""Radius of a filter, in standard deviations."""

DEFAULT_WIDTHS = (4.0, 8.0, 16.0, 32.0)
"""Standard deviations of the filters, in bins."""


class FilteredPatches(ValueEmbedding):
    """Linear map of all channels of a patch after a fixed bank of Gaussian filters and their derivatives.

    A Gaussian keeps slow activity, and its derivative has another phase, so that a linear map of several widths
    approximates a temporal filter with few weights. A learned filter of the same length has as many weights per channel
    as bins, which short recordings do not determine. Filters are symmetric around a bin and repeat the first and last
    bin beyond the ends of a segment.

    Args:
        patch: number of channels of a patch.
        d_model: width of a token.
        widths: standard deviations of the Gaussians, in bins.
        dropout: dropout of the filtered values.

    Raises:
        ConfigError: `widths` is empty.
        RangeError: a width or the dropout is out of range.

    Example:
        >>> embed = FilteredPatches(patch=2, d_model=6, widths=(4, 8))
        >>> embed(torch.randn(3, 50, 1, 2), torch.ones(3, 1, 2, dtype=torch.bool)).shape
        torch.Size([3, 50, 1, 6])
    """

    filters: Tensor

    def __init__(
        self, patch: int, d_model: int, widths: Sequence[float] = DEFAULT_WIDTHS, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not widths:
            raise ConfigError("FilteredPatches has no filters; give at least one width")
        for width in widths:
            check_range(POSITIVE, widths=width)
        check_range(DROPOUT, dropout=dropout)
        self.register_buffer("filters", gaussian_filters(widths), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(patch * len(self.filters), d_model)

    def forward(self, values: Tensor, channel_mask: Tensor) -> Tensor:
        """Embeds waveforms; see `ValueEmbedding.forward`."""
        series = values.masked_fill(~channel_mask[:, None], 0.0).permute(0, 2, 3, 1)
        filtered = filter_series(series, self.filters)
        tokens: Tensor = self.projection(self.dropout(filtered.flatten(2, 3).transpose(2, 3)))
        return tokens.transpose(1, 2)


def gaussian_filters(widths: Sequence[float]) -> Tensor:
    """Returns Gaussians of sum 1 and their derivatives times the width, as filters of odd length.

    Args:
        widths: standard deviations, in bins.

    Returns:
        (2 * len(widths), L) filters for a cross-correlation, the derivative after each Gaussian.
    """
    radius = round(TRUNCATION * max(widths))
    lags = torch.arange(-radius, radius + 1)
    filters = []
    for width in widths:
        gaussian = torch.exp(-((lags / width) ** 2) / 2)
        gaussian = gaussian / gaussian.sum()
        filters += [gaussian, lags / width * gaussian]
    return torch.stack(filters)


def filter_series(series: Tensor, filters: Tensor) -> Tensor:
    """Filters series (..., T) with (K, L) filters of odd length to (..., K, T); ends are repeated beyond the series."""
    radius = filters.shape[-1] // 2
    rows = series.flatten(end_dim=-2)[:, None]
    filtered = F.conv1d(F.pad(rows, (radius, radius), mode="replicate"), filters[:, None])
    return torch.unflatten(filtered, 0, series.shape[:-1])
