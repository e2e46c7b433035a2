"""Identity of held-out cells, scored after training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from blend_pl.callbacks.evaluation import Evaluation
from blend_pl.data.calcium.batches import PopulationBatch
from blend_pl.data.calcium.cells import TEST, TRAIN
from blend_pl.errors import ConfigError
from blend_pl.probes import EmbeddingFit, FittedEmbeddings, fit_embeddings, probe_scores
from blend_pl.probes.embeddings import CellEmbeddings
from blend_pl.probes.fitting import Losses
from blend_pl.probes.probes import PROBES
from blend_pl.systems.student import Student


class IdentityEvaluation(Evaluation):
    """After `test`, fits fresh embeddings for all cells and reads cell types from those of the test cells.

    The network is frozen, embeddings are fitted by reconstruction alone, in training time, and no teacher takes part.
    Train cells are fitted afresh too, so that probes are trained on what they are tested on. Every cell begins at the
    mean of the trained embeddings. A student sees no behaviour here either.

    Args:
        fit: how embeddings are fitted.
        seed: seed of the fit and of the probes, the same in every run, so that runs differ by their training alone.

    Attributes:
        fitted: embeddings of all cells, in the order of the data module's cells.
        cells: the same with what is known of the cells; `embeddings.h5` in the run's folder once training has ended.
    """

    def __init__(self, fit: EmbeddingFit = EmbeddingFit(), seed: int = 0) -> None:  # noqa: B008
        super().__init__()
        self.fit, self.seed = fit, seed
        self.fitted: FittedEmbeddings | None = None
        self.cells: CellEmbeddings | None = None

    def save(self, run: Path) -> None:
        """Writes the embeddings of all cells.

        Raises:
            DataError: the folder cannot be written.
        """
        assert self.cells is not None
        self.cells.write(run)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fits and scores; every rank does the same.

        Raises:
            ConfigError: the data have no cells, or the network no embedding of them.
        """
        assert isinstance(pl_module, Student)
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(datamodule, "every_cell"):
            raise ConfigError(
                f"IdentityEvaluation needs cells with types, which {type(datamodule).__name__} has not; take it out of "
                "trainer.callbacks"
            )
        with torch.inference_mode(False), torch.enable_grad():
            train, val = (datamodule.every_cell(part, pl_module.device) for part in ("train", "val"))
            with fresh_embeddings(pl_module, len(datamodule.cells)) as embedding:
                losses = cell_losses(pl_module)
                self.fitted = fit_embeddings(embedding, losses, train, val, self.fit, self.seed)
        self.cells = _described(self.fitted, datamodule)
        self.scores = identity_scores(self.cells, self.seed)
        for name, value in self.scores.items():
            pl_module.log(f"eval/{name}", value)


def identity_scores(cells: CellEmbeddings, seed: int) -> dict[str, float]:
    """How well probes that were fitted on train cells read the types of test cells.

    Args:
        cells: embeddings of all cells.
        seed: seed of the probes.

    Returns:
        By task, "ei" and "subclass": "TASK_top1", "TASK_balanced" and "TASK_f1" of the linear probe, "TASK_PROBE_..."
        of the others, "TASK_majority"; and "heldout_loss", the reconstruction of the test cells in validation time.
    """
    scores = {"heldout_loss": float(np.nanmean(cells.loss[cells.side == TEST]))}
    for task, names in (("ei", cells.ei), ("subclass", cells.subclass)):
        rows = [np.flatnonzero((cells.side == side) & (names != "")) for side in (TRAIN, TEST)]
        vectors = cells.vectors[rows[0]], cells.vectors[rows[1]]
        found = probe_scores(vectors, (names[rows[0]], names[rows[1]]), seed)
        scores |= {f"{task}_{name.removeprefix(f'{PROBES[0]}_')}": value for name, value in found.items()}
    return scores


def _described(fitted: FittedEmbeddings, datamodule: Any) -> CellEmbeddings:
    cells = datamodule.cells
    return CellEmbeddings(
        vectors=fitted.vectors.cpu().numpy(),
        loss=fitted.loss.cpu().numpy(),
        cell=cells.cell,
        side=cells.side,
        label=cells.label,
        **cells.classes(datamodule.spec.types),
    )


@contextmanager
def fresh_embeddings(system: Student, n_cells: int) -> Iterator[nn.Embedding]:
    """Gives a system a table of embeddings for other cells, with everything else frozen, and takes it away again.

    Args:
        system: whose backbone has an `embedding`.
        n_cells: rows of the table, each the mean of the trained ones.

    Raises:
        ConfigError: the backbone has none.
    """
    trained = getattr(system.backbone, "embedding", None)
    if not isinstance(trained, nn.Embedding):
        raise ConfigError(
            f"{type(system.backbone).__name__} has no table of embeddings to fit; choose blend_pl.models.NeuPRINT"
        )
    mean = trained.weight.detach().mean(0, keepdim=True)
    required = {parameter: parameter.requires_grad for parameter in system.parameters()}
    mode = system.training
    system.requires_grad_(False)
    fresh = nn.Embedding.from_pretrained(mean.repeat(n_cells, 1), freeze=False)
    system.backbone.embedding = fresh
    system.eval()
    try:
        yield fresh
    finally:
        system.backbone.embedding = trained
        system.train(mode)
        for parameter, needed in required.items():
            parameter.requires_grad_(needed)


def cell_losses(system: Student) -> Losses:
    """The masked reconstruction of each cell, by a system's own masks, path and likelihood."""

    def losses(batch: PopulationBatch, seed: int) -> tuple[Tensor, Tensor]:
        masked, labels = system.mask(batch, seed, epoch=0)
        encoding = system.encode(masked)
        entries = system.likelihood.loss(encoding.prediction, batch.target, encoding.log_variance)
        return torch.where(labels, entries, 0.0).sum((0, 1)), labels.sum((0, 1))

    return losses
