"""Batches of several models, gathered at once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.data.loader import PlannedBatches
from blend_pl.data.nlb.batches import TrialBatches, TrialSampler

Cut = tuple[Tensor, Tensor, int]


class CrowdPlan:
    """Which batches an epoch consists of, for those models that still train.

    Args:
        plans: of the models, each with its own order of equally many trials.

    Attributes:
        active: places of those that still train.
    """

    def __init__(self, plans: Sequence[TrialSampler]) -> None:
        self.plans = plans
        self.active: Sequence[int] = range(len(plans))

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of all; Lightning calls this."""
        for plan in self.plans:
            plan.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.plans[0])

    def __iter__(self) -> Iterator[Cut]:
        """Yields (trials, their positions in their model's batch, size of that), the models one behind another."""
        for cuts in zip(*(self.plans[index] for index in self.active), strict=True):
            trials, rows, sizes = zip(*cuts, strict=True)
            yield torch.cat(trials), torch.cat(rows), sizes[0]


class CrowdBatches(PlannedBatches[Cut, Batch]):
    """Batches of K models on the same session: K * B trials each, the models one behind another.

    Args:
        loaders: of the models.
    """

    sampler: CrowdPlan

    def __init__(self, loaders: Sequence[TrialBatches]) -> None:
        super().__init__(CrowdPlan([loader.sampler for loader in loaders]))  # type: ignore[misc]
        self.loader = loaders[0]

    def cut(self, cut: Cut) -> Batch:
        return self.loader.cut(cut)
