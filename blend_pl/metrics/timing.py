"""Speed and timing: does neural activity run faster where the animal lets less time pass?"""

import torch
from torch import Tensor

from blend_pl.errors import BlendError, DataError
from blend_pl.metrics.score import StreamingScore, expect_rows, expect_shape


class TimingCorrelation(StreamingScore):
    """Pearson's r between produced interval and neural speed, averaged over conditions (Pei et al., 2021; DMFC_RSG).

    The speed of a trial is the mean length of the step that the predicted rates of all units take from one scored bin
    to the next. Slower activity goes with longer intervals, so the more negative, the better. Trials that were not
    given do not count, nor do conditions of a single trial, on which the benchmark's own evaluation fails; without any
    other, or with constant values, the score is nan.

    Args:
        n_units: N, the number of units.
        scored: (n, T) bool, the bins between the two events.
        group: (n,) integer condition of each trial; -1 for none.
        produced: (n,) produced intervals, any unit.

    Raises:
        BlendError: shapes do not match.
        DataError: a trial with a condition has no interval, or no trial has a condition.
    """

    higher_is_better = False
    steps: Tensor
    given: Tensor

    def __init__(self, n_units: int, scored: Tensor, group: Tensor, produced: Tensor) -> None:
        super().__init__()
        expect_shape("scored bins", scored, (-1, -1))
        expect_shape("conditions", group, (len(scored),))
        expect_shape("produced intervals", produced, (len(scored),))
        self.n_units = n_units
        # Plain attributes, not buffers: a half-precision model would round them.
        scored = scored.detach().cpu()
        self._between = scored[:, 1:] & scored[:, :-1]
        self._group, self._produced = group.detach().cpu(), produced.detach().to("cpu", torch.float64)
        used = self._group >= 0
        if not used.any():
            raise DataError("no trial has a condition and an interval; leave the timing score out")
        if not self._produced[used].isfinite().all():
            raise DataError("a trial with a condition has no produced interval; give it the condition -1")
        self.add_sum("steps", len(scored))
        self.add_sum("given", len(scored))

    def update(self, rates: Tensor, index: Tensor) -> None:
        """Adds a batch.

        Args:
            rates: (B, T, N) expected counts per bin, any dtype; read only in scored bins.
            index: (B,) integer rows of the trials.

        Raises:
            BlendError: shapes do not match, a trial does not exist, or a rate that is read is NaN or infinite.
        """
        expect_shape("rates", rates, (-1, self._between.shape[1] + 1, self.n_units))
        expect_shape("trial indices", index, (len(rates),))
        rows = index.cpu()
        expect_rows("trial indices", rows, 0, len(self._between))
        between = self._between[rows].to(rates.device)
        lengths = torch.where(between, rates.to(torch.float64).diff(dim=1).norm(dim=2), 0.0).sum(1)
        if not lengths.isfinite().all():
            raise BlendError("predicted rates hold NaN or infinite values in scored bins; look for a diverged model")
        self.steps.index_add_(0, index, lengths / between.sum(1))
        self.given.index_add_(0, index, torch.ones_like(lengths))

    def compute(self) -> Tensor:
        """The score of all batches, a float64 scalar."""
        given = self.given.cpu()
        speed = self.steps.cpu() / given
        used = (given > 0) & (self._group >= 0)
        correlations = [_pearson(speed[own], self._produced[own]) for own in _members(self._group, used)]
        score = torch.stack(correlations).mean() if correlations else torch.tensor(torch.nan, dtype=torch.float64)
        return score.to(self.steps.device)


def _members(group: Tensor, used: Tensor) -> list[Tensor]:
    members = (used & (group == condition) for condition in group[used].unique())
    return [own for own in members if own.sum() > 1]


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(), y - y.mean()
    return (x @ y) / (x.norm() * y.norm())
