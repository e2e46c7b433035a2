"""Several models of one architecture, trained in lockstep as one LightningModule."""

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
from blend_pl.data.nlb.batches import TrialBatches
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.session import Signature
from blend_pl.errors import BlendError, DataError
from blend_pl.metrics.nlb import NLBScores
from blend_pl.multirun.optimizers import Optimizers
from blend_pl.multirun.replica import Member
from blend_pl.multirun.stacked_data import CrowdBatches
from blend_pl.multirun.stacked_step import Lessons
from blend_pl.systems.checkpoint import save_weights
from blend_pl.systems.seeding import seed_of

MEMBERS = "members"


class CrowdData(L.LightningDataModule):
    """One session for several models: each has its own order of the training trials.

    Args:
        data: the session.
        seeds: of the models.
    """

    def __init__(self, data: NLBDataModule, seeds: Sequence[int]) -> None:
        super().__init__()
        self.data, self.seeds = data, seeds

    @property
    def signature(self) -> Signature:
        """What the models must agree with."""
        return self.data.signature

    def setup(self, stage: str) -> None:
        # It serves batches on the trainer's device.
        self.data.trainer = self.trainer

    def train_dataloader(self) -> CrowdBatches:
        """Those of the models, side by side."""
        loaders = []
        for seed in self.seeds:
            torch.manual_seed(seed)
            loaders.append(self.data.train_dataloader())
        return CrowdBatches(loaders)

    def val_dataloader(self) -> TrialBatches:
        return self.data.val_dataloader()

    def calibration_dataloader(self) -> TrialBatches:
        """See `NLBDataModule.calibration_dataloader`."""
        return self.data.calibration_dataloader()


class Crowd(L.LightningModule):
    """Trains members as `fit` would train each: own weights, order, masks, learning rate, selection and stop.

    Chance in dropout is another than that of a model that trains alone.

    Args:
        members: the models, built, of one architecture.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self.members = members
        self.systems = nn.ModuleList(member.system for member in members)
        self.active: list[int] = []

    def setup(self, stage: str) -> None:
        for member in self.members:
            member.system.trainer = self.trainer

    def configure_optimizers(self) -> OptimizerLRScheduler:
        pairs = []
        for member in self.members:
            made: Any = member.system.configure_optimizers()
            pairs.append((made["optimizer"], made["lr_scheduler"]["scheduler"]))
        self.together = Optimizers(pairs)
        return self.together

    def on_fit_start(self) -> None:
        for member in self.members:
            for callback in member.callbacks:
                callback.on_fit_start(self.trainer, member.system)

    def on_train_start(self) -> None:
        # Ended before its runs were scored, it goes on when nobody trains any more.
        self._end_with_the_last()

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(seed_of(*(member.seed for member in self.members), self.current_epoch))
        active = [index for index, member in enumerate(self.members) if not member.selection.stopped]
        if active != self.active:
            # Who has stopped costs nothing any more.
            self.active = active
            self.lessons = Lessons([self.members[index] for index in active])
            self.together.train(active, self.lessons.stack)
            self.trainer.train_dataloader.sampler.active = active  # type: ignore[union-attr]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        for index in self.active:
            for callback in self.members[index].callbacks:
                callback.on_train_batch_start(self.trainer, self.members[index].system, batch, batch_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        seeds = [seed_of(self.members[index].seed, self.current_epoch, batch_idx) for index in self.active]
        terms = self.lessons.terms(batch, seeds, self.current_epoch)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            self._tell({f"train/{name}": term.tolist() for name, term in terms.items()})
        return terms["loss"].sum()

    def optimizer_zero_grad(self, *_: Any) -> None:
        self.lessons.stack.zero_grad()

    def on_after_backward(self) -> None:
        self.together.gradients = self.lessons.stack.gradients()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if gradient_clip_val:
            self.together.clip(gradient_clip_val, by_value=gradient_clip_algorithm == "value")

    def on_validation_epoch_start(self) -> None:
        selection = self.trainer.val_dataloaders.session  # type: ignore[union-attr]
        self.scores = [NLBScores(selection, selection, only=("co_bps",)) for _ in self.active]
        self.loss, self.weight = torch.zeros(2, len(self.active), device=self.device, dtype=torch.float64)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        rates, entries, labels = self.lessons.answers(batch, batch_idx)
        # As torchmetrics' MeanMetric does, which leaves out what is no number.
        known = ~entries.isnan()
        self.loss += torch.where(known, entries, 0.0).flatten(1).sum(1)
        self.weight += (labels & known).flatten(1).sum(1)
        for index, scores, own in zip(self.active, self.scores, rates, strict=True):
            with _failure_of(self.members[index]):
                scores.update(own, batch.index, train=False)

    def on_validation_epoch_end(self) -> None:
        found = []
        losses = (self.loss / self.weight).tolist()
        for index, scores, loss in zip(self.active, self.scores, losses, strict=True):
            member, values = self.members[index], {"val/loss": loss}
            with _failure_of(member):
                values |= {f"val/{name}": value for name, value in scores.compute().items()}
                if not member.selection.failure and member.selection.take(values, self.current_epoch + 1):
                    save_weights(member.system, member.checkpoint, self.current_epoch, self.global_step)
            found.append(values)
        names = dict.fromkeys(name for values in found for name in values)
        self._tell({name: [values.get(name, math.nan) for values in found] for name in names})
        self.log("training", float(len(self.active)), prog_bar=True)
        self._end_with_the_last()

    def _end_with_the_last(self) -> None:
        if all(member.selection.stopped for member in self.members):
            self.trainer.should_stop = True

    def _tell(self, values: dict[str, list[float]]) -> None:
        for place, index in enumerate(self.active):
            for logger in self.members[index].loggers:
                logger.log_metrics({name: each[place] for name, each in values.items()}, self.global_step)
                logger.save()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[MEMBERS] = [member.selection.state_dict() for member in self.members]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for member, state in zip(self.members, checkpoint[MEMBERS], strict=True):
            member.selection.load_state_dict(state)


@contextmanager
def _failure_of(member: Member) -> Iterator[None]:
    """What ends the training of one member, such as rates that are no numbers, ends that of no other."""
    try:
        yield
    except DataError:
        # The disk is everyone's.
        raise
    except BlendError as error:
        member.selection.fail(str(error))
