"""Embeddings of cells that a network was not trained on: fitted by reconstruction, with the network frozen.

Cells do not attend to one another, so that a cell's loss depends on its own embedding alone: one gradient step on the
sum over all cells is a step for each of them, as if it were fitted on its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blend_pl.data.calcium.batches import PopulationBatch
from blend_pl.errors import ConfigError

Losses = Callable[[PopulationBatch, int], tuple[Tensor, Tensor]]
"""From a batch and the seed of its mask to each cell's (N,) summed loss and (N,) number of scored entries."""

Blocks = Sequence[Sequence[PopulationBatch]]
"""Batches of the same cells together: one inner sequence for each set of cells of one recording."""

VALIDATION_SEED = 0


@dataclass(frozen=True)
class EmbeddingFit:
    """How embeddings are fitted.

    Attributes:
        max_steps: gradient steps at most; each takes one batch of every cell of every recording.
        lr: learning rate of Adam, from which cells start.
        check_every: steps between two looks at the validation time.
        tolerance: relative fall of the mean validation loss that counts as progress.
        rounds: how often the rate is divided by 4, from the best embeddings so far, once there is no progress; then
            the fit ends.
    """

    max_steps: int = 300
    lr: float = 0.1
    check_every: int = 20
    tolerance: float = 2e-3
    rounds: int = 2

    def __post_init__(self) -> None:
        if min(self.max_steps, self.check_every) < 1 or self.lr <= 0 or self.rounds < 0:
            raise ConfigError(
                f"an embedding fit needs at least one step, a check and a learning rate above 0, not {self}"
            )


@dataclass(frozen=True)
class FittedEmbeddings:
    """What a fit found for C cells.

    Attributes:
        vectors: (C, size), each from the step at which its cell's validation loss was lowest.
        loss: (C,) that loss; NaN for cells without any recorded entry.
        steps: gradient steps that were made.
    """

    vectors: Tensor
    loss: Tensor
    steps: int


def fit_embeddings(
    embedding: nn.Embedding, losses: Losses, train: Blocks, validation: Blocks, settings: EmbeddingFit, seed: int = 0
) -> FittedEmbeddings:
    """Fits the rows of a table of embeddings, all at once, and stops when the validation loss no longer falls.

    Args:
        embedding: the table, with the rows that the fit begins from; changed in place.
        losses: reconstruction of each cell by the frozen network that uses this table.
        train: batches of training time.
        validation: batches of validation time, always masked in the same way.
        settings: how to fit.
        seed: seed of the choice of batches and of their masks.
    """
    vectors = embedding.weight
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([vectors], settings.lr)
    best, loss = vectors.detach().clone(), _validate(vectors, losses, validation)
    last, rounds, step = _mean(loss), 0, 0
    while step < settings.max_steps and rounds <= settings.rounds:
        for _ in range(min(settings.check_every, settings.max_steps - step)):
            optimizer.zero_grad()
            for block in train:
                batch = block[int(torch.randint(len(block), (1,), generator=generator))]
                total, entries = losses(batch, int(torch.randint(2**31, (1,), generator=generator)))
                (total / entries.clamp(min=1)).sum().backward()
            optimizer.step()
            step += 1
        now = _validate(vectors, losses, validation)
        better = now < loss
        best[better], loss = vectors.detach()[better], torch.where(better, now, loss)
        if _mean(loss) > last * (1 - settings.tolerance * (1 if last > 0 else -1)):
            rounds += 1
            with torch.no_grad():
                vectors.copy_(best)
            optimizer = torch.optim.Adam([vectors], settings.lr / 4**rounds)
        last = _mean(loss)
    return FittedEmbeddings(best, loss, step)


def _mean(loss: Tensor) -> float:
    return float(loss[loss.isfinite()].mean())


@torch.no_grad()
def _validate(vectors: Tensor, losses: Losses, validation: Blocks) -> Tensor:
    """(C,) mean loss of each cell."""
    total, entries = vectors.new_zeros(2, len(vectors)).unbind()
    for block in validation:
        for number, batch in enumerate(block):
            sums, counts = losses(batch, VALIDATION_SEED + number)
            total.index_add_(0, batch.neurons, sums)
            entries.index_add_(0, batch.neurons, counts.to(entries.dtype))
    return total / entries
