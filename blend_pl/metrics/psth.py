"""PSTH R2: do the predicted rates, averaged over the trials of a condition, follow the recorded average response?"""

import torch
from torch import Tensor

from blend_pl.errors import BlendError, DataError
from blend_pl.metrics.score import StreamingScore, expect_row_indices, expect_shape, r_squared


class PsthR2(StreamingScore):
    """R2 of the condition averages of the predicted rates against the PSTHs (Pei et al., 2021, NLB'21).

    Conditions and bins are stacked, R2 is taken per unit and averaged over units; a unit whose PSTHs are constant
    scores 0 (1 for no error at all). Conditions without a trial are left out. With fewer than two stacked bins the
    score is nan. Rates of trials whose window was shifted are shifted back.

    Args:
        psth: (C, T, N) expected counts per bin, NaN in whole bins (all units) where a PSTH is not defined.

    Raises:
        DataError: there is no condition, or a bin is NaN for some units only.
    """

    rate_sum: Tensor
    trial_counts: Tensor

    def __init__(self, psth: Tensor) -> None:
        super().__init__()
        expect_shape("PSTHs", psth, (-1, -1, -1))
        if psth.numel() == 0:
            raise DataError(f"PSTHs of shape {tuple(psth.shape)} cannot be scored; leave the PSTH score out")
        # Plain attributes, not buffers: a half-precision model would round buffers.
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
            rates: (B, T, N) expected counts per bin, any dtype; read only where the PSTH of the condition is defined.
            condition: (B,) integer rows of `psth`; -1 for a trial of no condition.
            jitter: (B,) integer bins by which each trial's window lies later than its condition's PSTH; None for 0.

        Raises:
            BlendError: shapes do not match, a condition does not exist, or a rate that is read is NaN, infinite or
                outside the shifted window.
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
            raise BlendError(
                "predicted rates hold NaN or infinite values in bins with a PSTH; look for a diverged model"
            )
        condition = condition.to(rates.device)
        self.rate_sum.index_add_(0, condition, summands)
        self.trial_counts.index_add_(0, condition, torch.ones_like(condition, dtype=torch.float64))

    @property
    def predicted_psth(self) -> Tensor:
        """(C, T, N) float64 predicted response to each condition; 0 in bins without a PSTH or without trials."""
        return self.rate_sum / self.trial_counts.clamp(min=1)[:, None, None]

    def compute(self) -> Tensor:
        """The score of all batches, a float64 scalar."""
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
    """Moves each trial (B, T, N) later by its own number of bins, from beyond the window NaN comes in."""
    source_bins = torch.arange(rates.shape[1], device=rates.device) - jitter[:, None]
    outside = (source_bins < 0) | (source_bins >= rates.shape[1])
    shifted = rates.gather(1, source_bins.masked_fill(outside, 0)[..., None].expand_as(rates))
    return shifted.masked_fill(outside[..., None], torch.nan)
