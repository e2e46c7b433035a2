"""Which batches an epoch consists of, and how they are served, for recordings of every kind."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from blend_pl.data.batch import Batch

Cut = TypeVar("Cut")
"""What says where one batch is cut from."""
Cut_co = TypeVar("Cut_co", covariant=True)
Batch_co = TypeVar("Batch_co", bound=Batch, covariant=True)


class Plan(Protocol[Cut_co]):
    """Which batches an epoch consists of."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch; Lightning calls this."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Cut_co]: ...


class FixedPlan(Generic[Cut]):
    """The same batches in every epoch.

    Args:
        cuts: where they are cut from.
    """

    def __init__(self, cuts: Sequence[Cut]) -> None:
        self.cuts = cuts

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same."""

    def __len__(self) -> int:
        return len(self.cuts)

    def __iter__(self) -> Iterator[Cut]:
        return iter(self.cuts)


class PlannedBatches(Iterable[Batch_co], Generic[Cut, Batch_co], ABC):
    """Iterates over batches on the device where the recordings lie; a subclass cuts them.

    Args:
        plan: which batches there are. Lightning sets its epoch.
    """

    def __init__(self, plan: Plan[Cut]) -> None:
        # Under these names Lightning looks for what draws anew each epoch.
        self.sampler = self.batch_sampler = plan

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch_co]:
        return map(self.cut, self.sampler)

    @abstractmethod
    def cut(self, cut: Cut) -> Batch_co:
        """One batch."""
