"""Weighted sums over the cells of a recording."""

import torch
from torch import Tensor, nn

from blend_pl.utils.checks import COUNT, NON_NEGATIVE, check_range


class PopulationSummary(nn.Module):
    """Mean over all other cells of their activity times a learned vector per cell.

    A cell's own activity is excluded, so that masked entries are not revealed. The result does not depend on the order
    of the cells. Cells without a vector, which were not trained, add nothing; see `for_cells`. The mean is scaled
    by the square root of the number of vectors, so that independent cells give a variance of the order of `std`^2.

    Args:
        neurons: number of cells with a vector.
        channels: K, length of a vector.
        std: standard deviation of the initial vectors.

    Example:
        >>> import torch
        >>> summary = PopulationSummary(neurons=9, channels=3)
        >>> summary(torch.randn(2, 20, 4), torch.tensor([0, 4, 8, 2])).shape
        torch.Size([2, 20, 4, 3])
    """

    has_vector: Tensor

    def __init__(self, neurons: int, channels: int, std: float = 0.3) -> None:
        super().__init__()
        check_range(COUNT, channels=channels)
        check_range(NON_NEGATIVE, std=std)
        self.vectors = nn.Parameter(std * torch.randn(neurons, channels))
        self.register_buffer("has_vector", torch.ones(neurons), persistent=False)

    def forward(self, observed: Tensor, neurons: Tensor) -> Tensor:
        """Sums over the cells of a batch.

        Args:
            observed: (B, T, N) activity, 0 where missing.
            neurons: (N,) rows of the cells in `vectors`.

        Returns:
            (B, T, N, K).
        """
        vectors, has_vector = self.vectors[neurons], self.has_vector[neurons]
        others = (observed @ vectors)[:, :, None] - observed[..., None] * vectors
        n_others = (has_vector.sum() - has_vector).clamp(min=1)
        return others * (self.has_vector.sum().sqrt() / n_others[:, None])

    def for_cells(self, n_cells: int, rows: Tensor) -> "PopulationSummary":
        """Returns the frozen summary for a table of more cells.

        Args:
            n_cells: number of cells.
            rows: (neurons,) rows in that table of the cells with a vector.
        """
        summary = PopulationSummary(n_cells, self.vectors.shape[1]).to(self.vectors.device).requires_grad_(False)
        summary.vectors.zero_()[rows] = self.vectors.detach()
        summary.has_vector.zero_()[rows] = self.has_vector
        return summary
