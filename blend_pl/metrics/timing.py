"""Timing score: correlation of neural speed and produced interval."""

import torch
from torch import Tensor

from blend_pl.errors import BlendError, DataError
from blend_pl.metrics.score import StreamingScore, expect_row_indices, expect_shape


class TimingCorrelation(StreamingScore):
    """Pearson's r of produced interval and neural speed, averaged over conditions (Pei et al., 2021; DMFC_RSG).

    The speed of a trial is the mean Euclidean distance between the predicted rates of all units in consecutive scored
    bins. Slower activity is expected with longer intervals, so lower is better. Trials that were not added and
    conditions with a single trial, on which the benchmark's evaluation fails, are ignored. Without other conditions,
    or with constant values, the score is nan.

    Args:
        n_units: N, the number of units.
        scored_bins: (n, T) bool, bins between the two events.
        condition: (n,) integer condition of each trial; -1 for none.
        produced_interval: (n,) produced intervals, any unit.

    Raises:
        BlendError: shapes do not match.
        DataError: a trial with a condition has no interval, or no trial has a condition.

    Example:
        >>> interval = torch.tensor([400.0, 600.0, 800.0])
        >>> bins = torch.arange(10.0)
        >>> rates = (bins / interval[:, None])[..., None]  # activity is slower in longer intervals
        >>> scored_bins, condition = torch.ones(3, 10, dtype=torch.bool), torch.zeros(3, dtype=torch.long)
        >>> score = TimingCorrelation(1, scored_bins, condition, interval)
        >>> score.update(rates, torch.arange(3))
        >>> round(score.compute().item(), 2)
        -0.98
    """

    higher_is_better = False
    speed_sum: Tensor
    trial_counts: Tensor

    def __init__(self, n_units: int, scored_bins: Tensor, condition: Tensor, produced_interval: Tensor) -> None:
        super().__init__()
        expect_shape("scored bins", scored_bins, (-1, -1))
        expect_shape("conditions", condition, (len(scored_bins),))
        expect_shape("produced intervals", produced_interval, (len(scored_bins),))
        self.n_units = n_units
        # Attributes instead of buffers, because a half-precision model would round buffers.
        scored_bins = scored_bins.detach().cpu()
        self._scored_steps = scored_bins[:, 1:] & scored_bins[:, :-1]
        self._condition, self._produced_interval = (
            condition.detach().cpu(),
            produced_interval.detach().to("cpu", torch.float64),
        )
        has_condition = self._condition >= 0
        if not has_condition.any():
            raise DataError("no trial has a condition and an interval; omit the timing score")
        if not self._produced_interval[has_condition].isfinite().all():
            raise DataError("a trial with a condition has no produced interval; set its condition to -1")
        self.add_sum_state("speed_sum", len(scored_bins))
        self.add_sum_state("trial_counts", len(scored_bins))

    def update(self, rates: Tensor, index: Tensor) -> None:
        """Adds a batch.

        Args:
            rates: (B, T, N) expected counts per bin, any dtype; used only in scored bins.
            index: (B,) integer rows of the trials.

        Raises:
            BlendError: shapes do not match, a trial does not exist, or a used rate is NaN or infinite.
        """
        expect_shape("rates", rates, (-1, self._scored_steps.shape[1] + 1, self.n_units))
        expect_shape("trial indices", index, (len(rates),))
        rows = index.cpu()
        expect_row_indices("trial indices", rows, 0, len(self._scored_steps))
        scored_steps = self._scored_steps[rows].to(rates.device)
        path_lengths = torch.where(scored_steps, rates.to(torch.float64).diff(dim=1).norm(dim=2), 0.0).sum(1)
        if not path_lengths.isfinite().all():
            raise BlendError("predicted rates are NaN or infinite in scored bins; check for a diverged model")
        self.speed_sum.index_add_(0, index, path_lengths / scored_steps.sum(1))
        self.trial_counts.index_add_(0, index, torch.ones_like(path_lengths))

    def compute(self) -> Tensor:
        """Returns the score of all batches as a float64 scalar."""
        trial_counts = self.trial_counts.cpu()
        speed = self.speed_sum.cpu() / trial_counts
        scored_trials = (trial_counts > 0) & (self._condition >= 0)
        correlations = [
            _pearson(speed[trial_mask], self._produced_interval[trial_mask])
            for trial_mask in _condition_masks(self._condition, scored_trials)
        ]
        score = torch.stack(correlations).mean() if correlations else torch.tensor(torch.nan, dtype=torch.float64)
        return score.to(self.speed_sum.device)


def _condition_masks(conditions: Tensor, scored_trials: Tensor) -> list[Tensor]:
    trial_masks = (scored_trials & (conditions == condition) for condition in conditions[scored_trials].unique())
    return [trial_mask for trial_mask in trial_masks if trial_mask.sum() > 1]


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(), y - y.mean()
    correlation: Tensor = (x @ y) / (x.norm() * y.norm())
    return correlation
