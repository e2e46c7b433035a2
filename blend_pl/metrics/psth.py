"""PSTH R2: predicted rates, averaged over the trials of each condition, against the recorded PSTHs."""

import torch
from torch import Tensor

from blend_pl.errors import BlendError, DataError
from blend_pl.metrics.score import StreamingScore, expect_row_indices, expect_shape, r_squared


class PsthR2(StreamingScore):
    """R2 of the condition averages of the predicted rates against the PSTHs (Pei et al., 2021, NLB'21).

    R2 is computed per unit over stacked conditions and bins, and averaged over units. A unit with constant PSTHs scores
    0, or 1 without any error. Conditions without trials are ignored. With fewer than two stacked bins the score is nan.
    Rates of trials with a shifted window are shifted back.

    Args:
        psth: (C, T, N) expected counts per bin, NaN in all units of a bin if its PSTH is undefined.

    Raises:
        DataError: there is no condition, or a bin is NaN for some units only.

    Example:
        >>> psth = torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]]])  # two conditions, two bins, one unit
        >>> score = PsthR2(psth)
        >>> score.update(psth[[0, 1, 1]], condition=torch.tensor([0, 1, 1]))
        >>> score.compute().item()
        1.0
    """

    rate_sum: Tensor
    trial_counts: Tensor

    def __init__(self, psth: Tensor) -> None:
        super().__init__()
        expect_shape("PSTHs", psth, (-1, -1, -1))
        if psth.numel() == 0:
            raise DataError(f"PSTHs of shape {tuple(psth.shape)} cannot be scored; omit the PSTH score")
        # Attributes instead of buffers, because a half-precision model would round buffers.
        psth = psth.detach().to("cpu", torch.float64)
        self._is_defined = ~psth[..., 0].isnan()
        self._psth = torch.where(self._is_defined[..., None], psth, 0.0)
        if not self._psth.sum().isfinite():
            raise DataError("a PSTH bin is NaN or infinite for some units only; set such bins to NaN for all units")
        self.add_sum_state("rate_sum", *psth.shape)
        self.add_sum_state("trial_counts", len(psth))

    def update(self, rates: Tensor, condition: Tensor, jitter: Tensor | None = None) -> None:
        """Adds a batch.

        Args:
            rates: (B, T, N) expected counts per bin, any dtype; used only where the PSTH of the condition is defined.
            condition: (B,) integer rows of `psth`; -1 for a trial without condition.
            jitter: (B,) integer shift of each trial's window in bins, positive if later than the PSTH; None for 0.

        Raises:
            BlendError: shapes do not match, a condition does not exist, or a used rate is NaN, infinite or outside the
                shifted window.
        """
        expect_shape("rates", rates, (-1, *self._psth.shape[1:]))
        expect_shape("conditions", condition, (len(rates),))
        condition = condition.cpu()
        expect_row_indices("conditions", condition, -1, len(self._psth))
        scored_trials = (condition >= 0).nonzero()[:, 0]
        condition = condition[scored_trials].long()
        defined = self._is_defined[condition, :, None].to(rates.device)
        aligned = rates[scored_trials.to(rates.device)]
        if jitter is not None:
            expect_shape("jitters", jitter, (len(rates),))
            aligned = _shift_later(aligned, jitter.cpu()[scored_trials].long().to(rates.device))
        summands = torch.where(defined, aligned, 0).to(torch.float64)
        if not summands.sum().isfinite():
            raise BlendError("predicted rates are NaN or infinite in bins with a PSTH; check for a diverged model")
        condition = condition.to(rates.device)
        self.rate_sum.index_add_(0, condition, summands)
        self.trial_counts.index_add_(0, condition, torch.ones_like(condition, dtype=torch.float64))

    @property
    def predicted_psth(self) -> Tensor:
        """(C, T, N) float64 predicted response to each condition; 0 in bins without a PSTH or without trials."""
        return self.rate_sum / self.trial_counts.clamp(min=1)[:, None, None]

    def compute(self) -> Tensor:
        """Returns the score of all batches as a float64 scalar."""
        device = self.trial_counts.device
        psth = self._psth.to(device)
        scored_bins = (self._is_defined.to(device) & (self.trial_counts > 0)[:, None])[..., None]
        n_bins = scored_bins.sum()
        residual = (self.predicted_psth - psth).mul_(scored_bins).square_().sum((0, 1))
        mean = (psth * scored_bins).sum((0, 1)) / n_bins
        total = (psth - mean).mul_(scored_bins).square_().sum((0, 1))
        score = r_squared(residual, total, total == 0).mean()
        return score.masked_fill(n_bins < 2, torch.nan)


def _shift_later(rates: Tensor, jitter: Tensor) -> Tensor:
    """Shifts each trial of (B, T, N) rates later by its number of bins; bins from outside the window become NaN."""
    source_bins = torch.arange(rates.shape[1], device=rates.device) - jitter[:, None]
    outside = (source_bins < 0) | (source_bins >= rates.shape[1])
    shifted = rates.gather(1, source_bins.masked_fill(outside, 0)[..., None].expand_as(rates))
    return shifted.masked_fill(outside[..., None], torch.nan)
