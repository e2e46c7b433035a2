"""LightningModule that trains several replicas of one architecture in lockstep."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from blend_pl.data.batch import Batch
from blend_pl.data.nlb.batches import TrialLoader
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.signature import Signature
from blend_pl.errors import BlendError, DataError
from blend_pl.metrics.nlb import NLBScores
from blend_pl.multirun.optimizers import REPLICAS, StackedOptimizer
from blend_pl.multirun.replica import Replica
from blend_pl.multirun.stacked_data import StackedLoader
from blend_pl.multirun.stacked_step import StackedStep
from blend_pl.systems.checkpoint import save_weights
from blend_pl.systems.seeding import derive_seed


class StackedDataModule(L.LightningDataModule):
    """Data of one session for several replicas, each with its own order of the training trials.

    Args:
        datamodule: data module of the session.
        seeds: seed of each replica.
    """

    def __init__(self, datamodule: NLBDataModule, seeds: Sequence[int]) -> None:
        super().__init__()
        self.datamodule, self.seeds = datamodule, seeds

    @property
    def signature(self) -> Signature:
        """Signature of the session."""
        return self.datamodule.signature

    def setup(self, stage: str) -> None:
        # The inner data module loads batches to the device of its trainer.
        self.datamodule.trainer = self.trainer

    def train_dataloader(self) -> StackedLoader:
        """Returns a loader of the training batches of all replicas."""
        loaders = []
        for seed in self.seeds:
            torch.manual_seed(seed)
            loaders.append(self.datamodule.train_dataloader())
        return StackedLoader(loaders)

    def val_dataloader(self) -> TrialLoader:
        return self.datamodule.val_dataloader()

    def calibration_dataloader(self) -> TrialLoader:
        """See `NLBDataModule.calibration_dataloader`."""
        return self.datamodule.calibration_dataloader()


class StackedModule(L.LightningModule):
    """Trains replicas as `fit` trains each of them, up to rounding.

    Every replica has its own weights, order of trials, masks, learning rate, checkpoint selection and early stopping.
    Only dropout draws other random numbers than in `fit`.

    Args:
        replicas: replicas of one architecture, built.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        super().__init__()
        self.replicas = replicas
        self.systems = nn.ModuleList(replica.system for replica in replicas)
        self.active: list[int] = []

    def setup(self, stage: str) -> None:
        for replica in self.replicas:
            replica.system.trainer = self.trainer

    def configure_optimizers(self) -> OptimizerLRScheduler:
        pairs = []
        for replica in self.replicas:
            configured: Any = replica.system.configure_optimizers()
            pairs.append((configured["optimizer"], configured["lr_scheduler"]["scheduler"]))
        self.optimizer = StackedOptimizer(pairs)
        return self.optimizer

    def on_fit_start(self) -> None:
        for replica in self.replicas:
            for callback in replica.callbacks:
                callback.on_fit_start(self.trainer, replica.system)

    def on_train_start(self) -> None:
        # All replicas of a resumed stack may have stopped before the interruption.
        self._stop_when_all_stopped()

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(derive_seed(*(replica.seed for replica in self.replicas), self.current_epoch))
        active = [index for index, replica in enumerate(self.replicas) if not replica.selector.stopped]
        if active != self.active:
            # Drop replicas that stopped early from the stack.
            self.active = active
            self.stacked_step = StackedStep([self.replicas[index] for index in active])
            self.optimizer.set_active(active, self.stacked_step.stack)
            self.trainer.train_dataloader.sampler.active = active  # type: ignore[union-attr]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        for index in self.active:
            for callback in self.replicas[index].callbacks:
                callback.on_train_batch_start(self.trainer, self.replicas[index].system, batch, batch_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        seeds = [derive_seed(self.replicas[index].seed, self.current_epoch, batch_idx) for index in self.active]
        losses = self.stacked_step.losses(batch, seeds, self.current_epoch)
        log_every_n_steps: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if log_every_n_steps and (self.global_step + 1) % log_every_n_steps == 0:
            self._log_metrics({f"train/{name}": loss.tolist() for name, loss in losses.items()})
        return losses["loss"].sum()

    def optimizer_zero_grad(self, *_: Any) -> None:
        self.stacked_step.stack.zero_grad()

    def on_after_backward(self) -> None:
        self.optimizer.gradients = self.stacked_step.stack.flat_gradients()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if gradient_clip_val:
            self.optimizer.clip(gradient_clip_val, by_value=gradient_clip_algorithm == "value")

    def on_validation_epoch_start(self) -> None:
        session = self.trainer.val_dataloaders.session  # type: ignore[union-attr]
        self.scores = [NLBScores(session, session, score_names=("co_bps",)) for _ in self.active]
        self.loss_sum, self.n_loss_entries = torch.zeros(2, len(self.active), device=self.device, dtype=torch.float64)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        rates, entry_losses, loss_mask = self.stacked_step.predict_with_loss(batch, batch_idx)
        # Skips NaN, like MeanMetric of torchmetrics.
        not_nan = ~entry_losses.isnan()
        self.loss_sum += torch.where(not_nan, entry_losses, 0.0).flatten(1).sum(1)
        self.n_loss_entries += (loss_mask & not_nan).flatten(1).sum(1)
        for index, scores, replica_rates in zip(self.active, self.scores, rates, strict=True):
            with _record_failure(self.replicas[index]):
                scores.update(replica_rates, batch.index, is_train=False)

    def on_validation_epoch_end(self) -> None:
        values_per_replica = []
        losses = (self.loss_sum / self.n_loss_entries).tolist()
        for index, scores, loss in zip(self.active, self.scores, losses, strict=True):
            replica, values = self.replicas[index], {"val/loss": loss}
            with _record_failure(replica):
                values |= {f"val/{name}": value for name, value in scores.compute().items()}
                if not replica.selector.failure and replica.selector.update(values, self.current_epoch + 1):
                    save_weights(replica.system, replica.checkpoint, self.current_epoch, self.global_step)
            values_per_replica.append(values)
        names = dict.fromkeys(name for values in values_per_replica for name in values)
        self._log_metrics({name: [values.get(name, math.nan) for values in values_per_replica] for name in names})
        self.log("training", float(len(self.active)), prog_bar=True)
        self._stop_when_all_stopped()

    def _stop_when_all_stopped(self) -> None:
        if all(replica.selector.stopped for replica in self.replicas):
            self.trainer.should_stop = True

    def _log_metrics(self, values: dict[str, list[float]]) -> None:
        for position, index in enumerate(self.active):
            for logger in self.replicas[index].loggers:
                logger.log_metrics(
                    {name: per_replica[position] for name, per_replica in values.items()}, self.global_step
                )
                logger.save()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[REPLICAS] = [replica.selector.state_dict() for replica in self.replicas]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for replica, state in zip(self.replicas, checkpoint[REPLICAS], strict=True):
            replica.selector.load_state_dict(state)


@contextmanager
def _record_failure(replica: Replica) -> Iterator[None]:
    """Stops only this replica on an error, such as NaN rates; a full or read-only disk stops all replicas."""
    try:
        yield
    except DataError:
        raise
    except BlendError as error:
        replica.selector.fail(str(error))
