"""Samplers of batch indices, and the loader that gathers batches from tensors in memory."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from blend_pl.data.batch import Batch

BatchIndexT = TypeVar("BatchIndexT")
"""Index of one batch in the recordings."""
BatchIndexT_co = TypeVar("BatchIndexT_co", covariant=True)
BatchT_co = TypeVar("BatchT_co", bound=Batch, covariant=True)


class BatchSampler(Protocol[BatchIndexT_co]):
    """Yields the index of each batch of an epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch; called by Lightning."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[BatchIndexT_co]: ...


class FixedBatchSampler(Generic[BatchIndexT]):
    """Yields the same batch indices in every epoch.

    Args:
        batch_indices: the indices.
    """

    def __init__(self, batch_indices: Sequence[BatchIndexT]) -> None:
        self.batch_indices = batch_indices

    def set_epoch(self, epoch: int) -> None:
        """Does nothing: all epochs are the same."""

    def __len__(self) -> int:
        return len(self.batch_indices)

    def __iter__(self) -> Iterator[BatchIndexT]:
        return iter(self.batch_indices)


class BatchLoader(Iterable[BatchT_co], Generic[BatchIndexT, BatchT_co], ABC):
    """Iterates over batches on the device of the recordings; a subclass gathers them.

    Args:
        sampler: yields the batch indices; Lightning sets its epoch.
    """

    def __init__(self, sampler: BatchSampler[BatchIndexT]) -> None:
        # Lightning sets the epoch of the sampler that it finds under either name.
        self.sampler = self.batch_sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[BatchT_co]:
        return map(self.gather, self.sampler)

    @abstractmethod
    def gather(self, batch_index: BatchIndexT) -> BatchT_co:
        """Returns the batch at an index."""


class ChainedLoader(Iterable[Any]):
    """Iterates over the batches of several loaders, one loader after the other.

    A trainer reports the scores of one loader once, and those of a list of loaders once for each.

    Args:
        loaders: the loaders.
    """

    def __init__(self, *loaders: BatchLoader[Any, Any]) -> None:
        self.loaders = loaders

    def __len__(self) -> int:
        return sum(map(len, self.loaders))

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self.loaders)
