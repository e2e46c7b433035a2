"""Gaussian smoothing of spike counts."""

import torch
from torch import Tensor

MIN_KERNEL_WEIGHT = 1e-12
"""Weight of distant bins: the result is the trial's mean where no bin near was recorded."""


def smooth(counts: Tensor, recorded: Tensor, sd_ms: float, bin_ms: int) -> Tensor:
    """Returns the weighted mean of the recorded counts around each bin of a trial.

    Args:
        counts: (trials, T, N) counts or rates.
        recorded: (trials, T) or (trials, T, N) bool; unrecorded bins have no weight.
        sd_ms: standard deviation of the kernel in ms.
        bin_ms: bin width in ms.

    Returns:
        (trials, T, N) float64 in the unit of `counts`; 0 for a trial without recorded bins of a unit.
    """
    time = torch.arange(counts.shape[1], dtype=torch.float64) * bin_ms
    kernel = torch.exp(-0.5 * ((time[:, None] - time) / sd_ms).square()) + MIN_KERNEL_WEIGHT
    weight = recorded.double() if recorded.ndim == counts.ndim else recorded.double()[..., None]
    total = kernel @ weight
    return kernel @ (counts.double() * weight) / total.masked_fill(total == 0, 1.0)
