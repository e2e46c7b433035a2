"""Evaluation of the rates that a system predicts."""

from pathlib import Path
from typing import Any

import lightning as L

from blend_pl.data.base import datamodule_of
from blend_pl.data.batch import Batch
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.errors import ConfigError
from blend_pl.metrics.nlb import NLBScores, evaluate_rates


class Evaluation(L.Callback):
    """Base class of callbacks that score a trained model; the command line prints and stores the scores.

    Attributes:
        scores: the scores of the last test.
        oracle: the scores of the true rates, or None.
    """

    def __init__(self) -> None:
        self.scores: dict[str, float] = {}
        self.oracle: dict[str, float] | None = None

    def save(self, run_dir: Path) -> None:
        """Writes other results than scores into the run folder; does nothing by default."""


class NLBEvaluation(Evaluation):
    """Logs val/co_bps after each epoch and all scores of NLB'21 in `test`.

    If the true rates are available, as in a simulated session, they are scored too, as an upper bound.
    """

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # The session of the loader is on the device already.
        session = trainer.val_dataloaders.session  # type: ignore[union-attr]
        self.nlb_scores = NLBScores(session, session, score_names=("co_bps",))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.nlb_scores.update(outputs, batch.index, is_train=False)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name, value in self.nlb_scores.compute().items():
            pl_module.log(f"val/{name}", value, prog_bar=True)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        train_loader, eval_loader = trainer.test_dataloaders.loaders  # type: ignore[union-attr]
        self.n_train_batches = len(train_loader)
        self.nlb_scores = NLBScores(train_loader.session, eval_loader.session)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.nlb_scores.update(outputs, batch.index, is_train=batch_idx < self.n_train_batches)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.scores = self.nlb_scores.compute()
        for name, value in self.scores.items():
            pl_module.log(f"eval/{name}", value)
        datamodule = datamodule_of(trainer)
        if not isinstance(datamodule, NLBDataModule):
            raise ConfigError(
                f"NLBEvaluation needs trials of an NLBDataModule, not {type(datamodule).__name__}; remove it from "
                "trainer.callbacks"
            )
        train_rates, eval_rates = (datamodule.true_rates(subset) for subset in ("train", "eval"))
        if train_rates is not None and eval_rates is not None:
            self.oracle = evaluate_rates(
                datamodule.subsets["train"], datamodule.subsets["eval"], (train_rates, eval_rates)
            )
