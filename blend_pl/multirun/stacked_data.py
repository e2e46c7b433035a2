"""Batches of several models, gathered at once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.data.loader import BatchLoader
from blend_pl.data.nlb.batches import TrialLoader, TrialSampler

StackedBatchIndex = tuple[Tensor, Tensor, int]


class StackedSampler:
    """Which batches an epoch consists of, for those models that still train.

    Args:
        samplers: of the models, each with its own order of equally many trials.

    Attributes:
        active: places of those that still train.
    """

    def __init__(self, samplers: Sequence[TrialSampler]) -> None:
        self.samplers = samplers
        self.active: Sequence[int] = range(len(samplers))

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of all; Lightning calls this."""
        for sampler in self.samplers:
            sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.samplers[0])

    def __iter__(self) -> Iterator[StackedBatchIndex]:
        """Yields (trials, their positions in their model's batch, size of that), the models one behind another."""
        for indices in zip(*(self.samplers[index] for index in self.active), strict=True):
            trials, rows, sizes = zip(*indices, strict=True)
            yield torch.cat(trials), torch.cat(rows), sizes[0]


class StackedLoader(BatchLoader[StackedBatchIndex, Batch]):
    """Batches of K models on the same session: K * B trials each, the models one behind another.

    Args:
        loaders: of the models.
    """

    sampler: StackedSampler

    def __init__(self, loaders: Sequence[TrialLoader]) -> None:
        super().__init__(StackedSampler([loader.sampler for loader in loaders]))  # type: ignore[misc]
        self.loader = loaders[0]

    def gather(self, index: StackedBatchIndex) -> Batch:
        return self.loader.gather(index)
