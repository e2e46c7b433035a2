"""Evaluation of the cell types that embeddings of held-out cells encode."""

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
from blend_pl.models.layers.population_summary import PopulationSummary
from blend_pl.probes import EmbeddingFitConfig, FittedEmbeddings, fit_embeddings, probe_scores
from blend_pl.probes.embeddings import CellEmbeddings
from blend_pl.probes.fitting import CellLossFn
from blend_pl.probes.probes import PROBES
from blend_pl.systems.base import NeuralSystem
from blend_pl.utils.checks import NON_NEGATIVE, check_range


class IdentityEvaluation(Evaluation):
    """Fits new embeddings of all cells after `test` and decodes the types of test cells from them.

    The network is frozen, and embeddings are fitted by reconstruction of the training time, without a teacher. Those of
    train cells are fitted again too, so that probes are trained and tested on embeddings of the same kind. All
    embeddings start at the mean of the trained ones. A student sees no behavior here either.

    Args:
        fit: settings of the fit.
        seed: seed of the fit and of the probes; it does not depend on the seed of the run, so that runs differ in their
            training only.

    Attributes:
        fitted: embeddings of all cells, in the order of the data module's cells.
        cells: the embeddings with metadata of the cells, written to `embeddings.h5` in the run folder.
    """

    def __init__(self, fit: EmbeddingFitConfig = EmbeddingFitConfig(), seed: int = 0) -> None:  # noqa: B008
        super().__init__()
        check_range(NON_NEGATIVE, seed=seed)
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
        """Computes the scores; every rank computes all of them.

        Raises:
            ConfigError: the data have no cell types, or the network has no embeddings of cells.
        """
        assert isinstance(pl_module, NeuralSystem)
        datamodule = datamodule_of(trainer)
        if not isinstance(datamodule, CalciumDataModule):
            raise ConfigError(
                f"IdentityEvaluation needs cells with types, which {type(datamodule).__name__} lacks; remove it from "
                "trainer.callbacks"
            )
        with torch.inference_mode(False), torch.enable_grad():
            train, val = (datamodule.all_cell_batches(subset, pl_module.device) for subset in ("train", "val"))
            train_rows = torch.from_numpy(datamodule.cells.rows_in_split(TRAIN))
            with temporary_embeddings(pl_module, len(datamodule.cells), train_rows) as embedding:
                cell_loss = make_cell_loss(pl_module)
                self.fitted = fit_embeddings(embedding, cell_loss, train, val, self.fit, self.seed)
        self.cells = _to_cell_embeddings(self.fitted, datamodule)
        self.scores = identity_scores(self.cells, self.seed)
        for name, value in self.scores.items():
            pl_module.log(f"eval/{name}", value)


def identity_scores(cells: CellEmbeddings, seed: int) -> dict[str, float]:
    """Scores probes that are trained on train cells and decode the types of test cells.

    Args:
        cells: embeddings of all cells.
        seed: seed of the probes.

    Returns:
        For each task, "ei" and "subclass": "TASK_top1", "TASK_balanced" and "TASK_f1" of the linear probe,
        "TASK_PROBE_..." of other probes, and "TASK_majority"; "heldout_loss", the reconstruction loss of test cells in
        the validation time.
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
def temporary_embeddings(
    system: NeuralSystem, n_cells: int, train_rows: Tensor | None = None
) -> Iterator[nn.Embedding]:
    """Replaces the embeddings of a system by trainable ones for other cells and freezes all other parameters.

    The original embeddings and flags are restored on exit. A summary of the population still sums over the cells that
    it was trained on.

    Args:
        system: system with a backbone that has an `embedding`.
        n_cells: number of new embeddings; each starts at the mean of the trained ones.
        train_rows: rows of the trained cells in the new table; None for the first rows.

    Raises:
        ConfigError: the backbone has no embeddings.
    """
    trained_embedding = getattr(system.backbone, "embedding", None)
    if not isinstance(trained_embedding, nn.Embedding):
        raise ConfigError(f"{type(system.backbone).__name__} has no embeddings to fit; choose blend_pl.models.NeuPRINT")
    mean = trained_embedding.weight.detach().mean(0, keepdim=True)
    summary = getattr(system.backbone, "summary", None)
    requires_grad_flags = {parameter: parameter.requires_grad for parameter in system.parameters()}
    was_training = system.training
    system.requires_grad_(False)
    new_embedding = nn.Embedding.from_pretrained(mean.repeat(n_cells, 1), freeze=False)
    system.backbone.embedding = new_embedding
    if isinstance(summary, PopulationSummary):
        rows = torch.arange(trained_embedding.num_embeddings) if train_rows is None else train_rows
        system.backbone.summary = summary.for_cells(n_cells, rows)
    system.eval()
    try:
        yield new_embedding
    finally:
        system.backbone.embedding = trained_embedding
        if isinstance(summary, PopulationSummary):
            system.backbone.summary = summary
        system.train(was_training)
        for parameter, requires_grad in requires_grad_flags.items():
            parameter.requires_grad_(requires_grad)


def make_cell_loss(system: NeuralSystem) -> CellLossFn:
    """Returns a function that computes the masked reconstruction loss of each cell, with the masks of a system."""

    def cell_loss(batch: CalciumBatch, seed: int) -> tuple[Tensor, Tensor]:
        masked, loss_mask = system.mask(batch, seed, epoch=0)
        encoding = system.encode(masked)
        entry_losses = system.likelihood.loss(encoding.prediction, batch.target, encoding.log_variance)
        return torch.where(loss_mask, entry_losses, 0.0).sum((0, 1)), loss_mask.sum((0, 1))

    return cell_loss
