"""Batches of all replicas, gathered at once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.data.loader import BatchLoader, BatchSampler
from blend_pl.data.nlb.batches import TrialBatchIndex, TrialLoader

StackedBatchIndex = tuple[Tensor, Tensor, int]
"""Trials (K * B,), their rows in the batch of their replica (K * B,), and the size B of a replica's batch."""


class StackedSampler:
    """Samples the batches of all active replicas.

    Args:
        samplers: sampler of each replica; they differ only in the order of the trials.

    Attributes:
        active: indices of the replicas that still train.
    """

    def __init__(self, samplers: Sequence[BatchSampler[TrialBatchIndex]]) -> None:
        self.samplers = samplers
        self.active: Sequence[int] = range(len(samplers))

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of all samplers; called by Lightning."""
        for sampler in self.samplers:
            sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.samplers[0])

    def __iter__(self) -> Iterator[StackedBatchIndex]:
        """Yields the index of each batch, replica after replica."""
        for indices in zip(*(self.samplers[index] for index in self.active), strict=True):
            trials, rows, sizes = zip(*indices, strict=True)
            yield torch.cat(trials), torch.cat(rows), sizes[0]


class StackedLoader(BatchLoader[StackedBatchIndex, Batch]):
    """Loads batches of K replicas on one session: K * B trials, replica after replica.

    Args:
        loaders: loader of each replica.
    """

    sampler: StackedSampler

    def __init__(self, loaders: Sequence[TrialLoader]) -> None:
        super().__init__(StackedSampler([loader.sampler for loader in loaders]))
        self.loader = loaders[0]

    def gather(self, batch_index: StackedBatchIndex) -> Batch:
        return self.loader.gather(batch_index)
