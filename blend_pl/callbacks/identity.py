"""Identity of held-out cells, scored after training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from blend_pl.callbacks.evaluation import Evaluation
from blend_pl.data.base import datamodule_of
from blend_pl.data.calcium.batches import CalciumBatch
from blend_pl.data.calcium.cells import TEST, TRAIN
from blend_pl.data.calcium.module import CalciumDataModule
from blend_pl.errors import ConfigError
from blend_pl.probes import EmbeddingFitConfig, FittedEmbeddings, fit_embeddings, probe_scores
from blend_pl.probes.embeddings import CellEmbeddings
from blend_pl.probes.fitting import CellLossFn
from blend_pl.probes.probes import PROBES
from blend_pl.systems.base import NeuralSystem


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

    def __init__(self, fit: EmbeddingFitConfig = EmbeddingFitConfig(), seed: int = 0) -> None:  # noqa: B008
        super().__init__()
        self.fit, self.seed = fit, seed
        self.fitted: FittedEmbeddings | None = None
        self.cells: CellEmbeddings | None = None

    def save(self, run_dir: Path) -> None:
        """Writes the embeddings of all cells.

        Raises:
            DataError: the folder cannot be written.
        """
        assert self.cells is not None
        self.cells.write(run_dir)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fits and scores; every rank does the same.

        Raises:
            ConfigError: the data have no cells, or the network no embedding of them.
        """
        assert isinstance(pl_module, NeuralSystem)
        datamodule = datamodule_of(trainer)
        if not isinstance(datamodule, CalciumDataModule):
            raise ConfigError(
                f"IdentityEvaluation needs cells with types, which {type(datamodule).__name__} has not; take it out of "
                "trainer.callbacks"
            )
        with torch.inference_mode(False), torch.enable_grad():
            train, val = (datamodule.all_cell_batches(subset, pl_module.device) for subset in ("train", "val"))
            with temporary_embeddings(pl_module, len(datamodule.cells)) as embedding:
                cell_loss = make_cell_loss(pl_module)
                self.fitted = fit_embeddings(embedding, cell_loss, train, val, self.fit, self.seed)
        self.cells = _to_cell_embeddings(self.fitted, datamodule)
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
    scores = {"heldout_loss": float(np.nanmean(cells.loss[cells.split == TEST]))}
    for task, classes in (("ei", cells.ei), ("subclass", cells.subclass)):
        train_test_rows = [np.flatnonzero((cells.split == split) & (classes != "")) for split in (TRAIN, TEST)]
        vectors = cells.vectors[train_test_rows[0]], cells.vectors[train_test_rows[1]]
        task_scores = probe_scores(vectors, (classes[train_test_rows[0]], classes[train_test_rows[1]]), seed)
        scores |= {f"{task}_{name.removeprefix(f'{PROBES[0]}_')}": value for name, value in task_scores.items()}
    return scores


def _to_cell_embeddings(fitted: FittedEmbeddings, datamodule: CalciumDataModule) -> CellEmbeddings:
    cells = datamodule.cells
    return CellEmbeddings(
        vectors=fitted.vectors.cpu().numpy(),
        loss=fitted.loss.cpu().numpy(),
        cell=cells.cell_id,
        split=cells.split,
        label=cells.label,
        **cells.class_labels(datamodule.spec.types),
    )


@contextmanager
def temporary_embeddings(system: NeuralSystem, n_cells: int) -> Iterator[nn.Embedding]:
    """Gives a system a table of embeddings for other cells, with everything else frozen, and takes it away again.

    Args:
        system: whose backbone has an `embedding`.
        n_cells: rows of the table, each the mean of the trained ones.

    Raises:
        ConfigError: the backbone has none.
    """
    trained_embedding = getattr(system.backbone, "embedding", None)
    if not isinstance(trained_embedding, nn.Embedding):
        raise ConfigError(
            f"{type(system.backbone).__name__} has no table of embeddings to fit; choose blend_pl.models.NeuPRINT"
        )
    mean = trained_embedding.weight.detach().mean(0, keepdim=True)
    requires_grad_flags = {parameter: parameter.requires_grad for parameter in system.parameters()}
    was_training = system.training
    system.requires_grad_(False)
    new_embedding = nn.Embedding.from_pretrained(mean.repeat(n_cells, 1), freeze=False)
    system.backbone.embedding = new_embedding
    system.eval()
    try:
        yield new_embedding
    finally:
        system.backbone.embedding = trained_embedding
        system.train(was_training)
        for parameter, requires_grad in requires_grad_flags.items():
            parameter.requires_grad_(requires_grad)


def make_cell_loss(system: NeuralSystem) -> CellLossFn:
    """The masked reconstruction of each cell, by a system's own masks, path and likelihood."""

    def cell_loss(batch: CalciumBatch, seed: int) -> tuple[Tensor, Tensor]:
        masked, labels = system.mask(batch, seed, epoch=0)
        encoding = system.encode(masked)
        entry_losses = system.likelihood.loss(encoding.prediction, batch.target, encoding.log_variance)
        return torch.where(labels, entry_losses, 0.0).sum((0, 1)), labels.sum((0, 1))

    return cell_loss
