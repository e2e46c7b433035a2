"""Which batches an epoch consists of, and how they are served, for recordings of every kind."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from blend_pl.data.batch import Batch

BatchIndexT = TypeVar("BatchIndexT")
"""What says where one batch is cut from."""
BatchIndexT_co = TypeVar("BatchIndexT_co", covariant=True)
BatchT_co = TypeVar("BatchT_co", bound=Batch, covariant=True)


class BatchSampler(Protocol[BatchIndexT_co]):
    """Which batches an epoch consists of."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch; Lightning calls this."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[BatchIndexT_co]: ...


class FixedBatchSampler(Generic[BatchIndexT]):
    """The same batches in every epoch.

    Args:
        batch_indices: where they are cut from.
    """

    def __init__(self, batch_indices: Sequence[BatchIndexT]) -> None:
        self.batch_indices = batch_indices

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same."""

    def __len__(self) -> int:
        return len(self.batch_indices)

    def __iter__(self) -> Iterator[BatchIndexT]:
        return iter(self.batch_indices)


class BatchLoader(Iterable[BatchT_co], Generic[BatchIndexT, BatchT_co], ABC):
    """Iterates over batches on the device where the recordings lie; a subclass cuts them.

    Args:
        sampler: which batches there are. Lightning sets its epoch.
    """

    def __init__(self, sampler: BatchSampler[BatchIndexT]) -> None:
        # Under these names Lightning looks for what draws anew each epoch.
        self.sampler = self.batch_sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[BatchT_co]:
        return map(self.gather, self.sampler)

    @abstractmethod
    def gather(self, batch_index: BatchIndexT) -> BatchT_co:
        """One batch."""
