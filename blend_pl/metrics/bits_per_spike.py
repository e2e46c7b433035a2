"""Bits per spike: log-likelihood gain of predicted rates over the mean rate of each unit."""

import math

import torch
from torch import Tensor

from blend_pl.errors import BlendError
from blend_pl.metrics.score import StreamingScore, expect_shape

ZERO_RATE_REPLACEMENT = 1e-9
"""Expected count per bin that replaces a rate of zero, as in the benchmark."""


class BitsPerSpike(StreamingScore):
    """Poisson log-likelihood gain over the null model in bits per spike (Pei et al., 2021, NLB'21, eq. 1).

    (NLL_null - NLL) / (number of spikes * ln 2), pooled over all scored bins and units; the null model is each unit's
    mean over the scored counts. On held-out units this is co-bps, on all units in the forward bins fp-bps. Without
    spikes the score is -inf, or nan if nothing was scored.

    Args:
        n_units: N, the number of scored units.

    Raises:
        BlendError: `n_units` is not positive.

    Example:
        >>> counts = torch.tensor([[[0.0], [2.0]]])  # one trial, two bins, one unit
        >>> score = BitsPerSpike(n_units=1)
        >>> score.update(torch.tensor([[[1e-6], [2.0]]]), counts)
        >>> round(score.compute().item(), 3)
        1.0
    """

    nll: Tensor
    spikes: Tensor
    bins: Tensor

    def __init__(self, n_units: int) -> None:
        super().__init__()
        if n_units < 1:
            raise BlendError(f"bits per spike is not defined for {n_units} units; score at least one unit")
        self.n_units = n_units
        self.add_sum_state("nll")
        self.add_sum_state("spikes", n_units)
        self.add_sum_state("bins", n_units)

    def update(self, rates: Tensor, counts: Tensor, valid: Tensor | None = None) -> None:
        """Adds a batch.

        Args:
            rates: (B, T, N) expected counts per bin, any dtype; zero is replaced by 1e-9.
            counts: (B, T, N) spike counts, any dtype; NaN counts are not scored.
            valid: (B, T, N) bool, False where a count is not to be scored; None scores all.

        Raises:
            BlendError: shapes do not match, or a scored rate is NaN, negative or infinite.
        """
        expect_shape("rates", rates, (-1, -1, self.n_units))
        expect_shape("counts", counts, tuple(rates.shape))
        rates = rates.to(torch.float64)
        counts = counts.to(torch.float64)
        scored = ~counts.isnan()
        if valid is not None:
            expect_shape("valid", valid, tuple(rates.shape))
            scored &= valid.to(torch.bool)
        nonzero_rates = rates.masked_fill(rates == 0, ZERO_RATE_REPLACEMENT)
        # log(n!) is omitted because it is equal under both models.
        nll = torch.where(scored, nonzero_rates - counts * nonzero_rates.log(), 0.0).sum()
        # Any NaN, negative or infinite rate makes the sum NaN or infinite, so one scalar check finds all of them.
        if not nll.isfinite():
            raise _invalid_rates_error(rates[scored], counts[scored])
        self.nll += nll
        self.spikes += torch.where(scored, counts, 0.0).sum((0, 1))
        self.bins += scored.sum((0, 1))

    def compute(self) -> Tensor:
        """Returns the score of all batches as a float64 scalar."""
        mean = self.spikes / self.bins.clamp(min=1)
        mean = mean.masked_fill(mean == 0, ZERO_RATE_REPLACEMENT)
        null = (self.bins * mean - self.spikes * mean.log()).sum()
        return (null - self.nll) / self.spikes.sum() / math.log(2)


def bits_per_spike(rates: Tensor, counts: Tensor, valid: Tensor | None = None) -> Tensor:
    """Returns `BitsPerSpike` of one batch as a scalar; for the (B, T, N) arguments see `BitsPerSpike.update`.

    Example:
        >>> counts = torch.tensor([[[0.0], [2.0]]])
        >>> bits_per_spike(torch.full_like(counts, counts.mean()), counts).item()  # the mean rate
        0.0
    """
    metric = BitsPerSpike(rates.shape[-1]).to(rates.device)
    metric.update(rates, counts, valid)
    return metric.compute()


def _invalid_rates_error(rates: Tensor, counts: Tensor) -> BlendError:
    if rates.isnan().any():
        return BlendError("predicted rates are NaN in scored entries; check for a diverged model or a missing mask")
    if (rates < 0).any():
        return BlendError("predicted rates are negative; pass expected counts per bin, not log-rates")
    if counts.isinf().any():
        return BlendError("spike counts are infinite; convert float16 counts to a wider type before summing")
    return BlendError("predicted rates are infinite in scored entries; check for a diverged model")
