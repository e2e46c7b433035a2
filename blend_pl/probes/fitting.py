"""Fit of embeddings of cells that a network was not trained on, by reconstruction with the frozen network.

Cells do not attend to each other, so a cell's loss depends only on its own embedding. A gradient step on the sum over
all cells is equal to independent steps for each cell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blend_pl.data.calcium.batches import CalciumBatch
from blend_pl.utils.checks import COUNT, NON_NEGATIVE, POSITIVE, check_range

CellLossFn = Callable[[CalciumBatch, int], tuple[Tensor, Tensor]]
"""Maps a batch and the seed of its mask to the (N,) summed losses and (N,) numbers of scored entries of the cells."""

CellBatches = Sequence[Sequence[CalciumBatch]]
"""Batches grouped by cells: an inner sequence has batches of the same cells of one recording."""

VALIDATION_SEED = 0


@dataclass(frozen=True)
class EmbeddingFitConfig:
    """Settings of a fit of embeddings.

    Attributes:
        max_steps: maximum number of gradient steps; each uses one batch of every cell of every recording.
        lr: initial learning rate of Adam.
        check_every: number of steps between validations.
        tolerance: minimum relative decrease of the mean validation loss that counts as progress.
        max_lr_drops: how often the learning rate is divided by 4 when there is no progress, continuing from the best
            embeddings; the fit ends after the last.
    """

    max_steps: int = 300
    lr: float = 0.1
    check_every: int = 20
    tolerance: float = 2e-3
    max_lr_drops: int = 2

    def __post_init__(self) -> None:
        check_range(COUNT, max_steps=self.max_steps, check_every=self.check_every)
        check_range(POSITIVE, lr=self.lr)
        check_range(NON_NEGATIVE, tolerance=self.tolerance, max_lr_drops=self.max_lr_drops)


@dataclass(frozen=True)
class FittedEmbeddings:
    """Fitted embeddings of C cells.

    Attributes:
        vectors: (C, size), each from the validation with the cell's lowest loss.
        loss: (C,) lowest validation loss; NaN for cells without recorded entries.
        steps: number of gradient steps.
    """

    vectors: Tensor
    loss: Tensor
    steps: int


def fit_embeddings(
    embedding: nn.Embedding,
    cell_loss: CellLossFn,
    train: CellBatches,
    validation: CellBatches,
    settings: EmbeddingFitConfig,
    seed: int = 0,
) -> FittedEmbeddings:
    """Fits all rows of a table of embeddings and stops when the validation loss no longer decreases.

    Args:
        embedding: the table with the initial rows; changed in place.
        cell_loss: reconstruction loss of each cell by the frozen network that uses this table.
        train: batches of training time.
        validation: batches of validation time, which always have the same masks.
        settings: settings of the fit.
        seed: seed of the selection of batches and of their masks.
    """
    vectors = embedding.weight
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([vectors], settings.lr)
    best_vectors, best_loss = vectors.detach().clone(), _validate(vectors, cell_loss, validation)
    previous_mean, n_lr_drops, step = _finite_mean(best_loss), 0, 0
    while step < settings.max_steps and n_lr_drops <= settings.max_lr_drops:
        for _ in range(min(settings.check_every, settings.max_steps - step)):
            optimizer.zero_grad()
            for cell_batches in train:
                batch = cell_batches[int(torch.randint(len(cell_batches), (1,), generator=generator))]
                loss_sum, n_entries = cell_loss(batch, int(torch.randint(2**31, (1,), generator=generator)))
                (loss_sum / n_entries.clamp(min=1)).sum().backward()
            optimizer.step()
            step += 1
        current_loss = _validate(vectors, cell_loss, validation)
        improved = current_loss < best_loss
        best_vectors[improved], best_loss = vectors.detach()[improved], torch.where(improved, current_loss, best_loss)
        if _finite_mean(best_loss) > previous_mean * (1 - settings.tolerance * (1 if previous_mean > 0 else -1)):
            n_lr_drops += 1
            with torch.no_grad():
                vectors.copy_(best_vectors)
            optimizer = torch.optim.Adam([vectors], settings.lr / 4**n_lr_drops)
        previous_mean = _finite_mean(best_loss)
    return FittedEmbeddings(best_vectors, best_loss, step)


def _finite_mean(loss: Tensor) -> float:
    return float(loss[loss.isfinite()].mean())


@torch.no_grad()
def _validate(vectors: Tensor, cell_loss: CellLossFn, validation: CellBatches) -> Tensor:
    """Returns the (C,) mean loss of each cell."""
    loss_sum, n_entries = vectors.new_zeros(2, len(vectors)).unbind()
    for cell_batches in validation:
        for batch_index, batch in enumerate(cell_batches):
            sums, counts = cell_loss(batch, VALIDATION_SEED + batch_index)
            loss_sum.index_add_(0, batch.embedding_index, sums)
            n_entries.index_add_(0, batch.embedding_index, counts.to(n_entries.dtype))
    return loss_sum / n_entries
