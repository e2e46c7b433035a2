"""Spike counts smoothed with a Gaussian kernel."""

import torch
from torch import Tensor

MIN_KERNEL_WEIGHT = 1e-12
"""Weight of bins beyond any kernel: where nothing near was recorded, a trial's own mean stands in."""


def smooth(counts: Tensor, recorded: Tensor, sd_ms: float, bin_ms: int) -> Tensor:
    """Weighted mean of the recorded counts around each bin, within its trial.

    Args:
        counts: (trials, T, N) counts or rates.
        recorded: (trials, T) bool; the other bins have no weight.
        sd_ms: standard deviation of the kernel.
        bin_ms: bin width.

    Returns:
        (trials, T, N) float64 in the unit of `counts`; 0 for a trial of which nothing was recorded.
    """
    time = torch.arange(counts.shape[1], dtype=torch.float64) * bin_ms
    kernel = torch.exp(-0.5 * ((time[:, None] - time) / sd_ms).square()) + MIN_KERNEL_WEIGHT
    weight = recorded.double()[..., None]
    total = kernel @ weight
    return kernel @ (counts.double() * weight) / total.masked_fill(total == 0, 1.0)
