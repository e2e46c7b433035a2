"""Several models of one architecture, trained in lockstep as one LightningModule."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from blend_pl.data.batch import Batch
from blend_pl.data.loader import TrialBatches
from blend_pl.data.module import NLBDataModule
from blend_pl.data.session import Signature
from blend_pl.errors import BlendError, DataError
from blend_pl.evaluation import NLBScores
from blend_pl.many.batches import CrowdBatches
from blend_pl.many.member import BESIDES, Lesson, Member
from blend_pl.many.optimizer import Optimizers
from blend_pl.masking import joined
from blend_pl.models.stacking import Stack
from blend_pl.systems import Student
from blend_pl.systems.chance import seed_of
from blend_pl.systems.checkpoint import save_weights

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
            self.stack = Stack([self.members[index].lesson for index in active], BESIDES)
            self.together.train(active, self.stack)
            self.trainer.train_dataloader.sampler.active = active  # type: ignore[union-attr]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        for index in self.active:
            for callback in self.members[index].callbacks:
                callback.on_train_batch_start(self.trainer, self.members[index].system, batch, batch_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        systems = [self.members[index].system for index in self.active]
        seeds = [seed_of(system.seed, self.current_epoch, batch_idx) for system in systems]
        terms = _terms(self.stack, systems, batch, seeds, self.current_epoch)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            self._tell({f"train/{name}": term.tolist() for name, term in terms.items()})
        return terms["loss"].sum()

    def optimizer_zero_grad(self, *_: Any) -> None:
        self.stack.zero_grad()

    def on_after_backward(self) -> None:
        self.together.gradients = self.stack.gradients()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if not gradient_clip_val:
            return
        gradients = self.together.gradients
        if gradient_clip_algorithm == "value":
            gradients.clamp_(-gradient_clip_val, gradient_clip_val)
        else:
            # As `nn.utils.clip_grad_norm_` does.
            norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
            gradients.mul_((gradient_clip_val / (norms + 1e-6)).clamp(max=1.0))

    def on_validation_epoch_start(self) -> None:
        selection = self.trainer.val_dataloaders.session  # type: ignore[union-attr]
        self.scores = [NLBScores(selection, selection, only=("co_bps",)) for _ in self.active]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        for index, scores in zip(self.active, self.scores, strict=True):
            member = self.members[index]
            rates = member.system.assess(batch, batch_idx)
            with _failure_of(member):
                scores.update(rates, batch.index, train=False)

    def on_validation_epoch_end(self) -> None:
        found = []
        for index, scores in zip(self.active, self.scores, strict=True):
            member = self.members[index]
            loss = member.system.validation_loss
            values = {"val/loss": float(loss.compute())}
            loss.reset()
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


def obstacle(members: Sequence[Member], batch: Batch) -> str | None:
    """Why models of one architecture cannot train at once, as `torch.func.vmap` says; None where they can.

    Args:
        members: the models, built; two of them are tried.
        batch: any trials; two of them are used.
    """
    # The same trials for both.
    rows = torch.arange(len(batch), device=batch.rows.device)[:2].repeat(2)
    tensors = {name: tensor[rows].to("cpu") for name, tensor in _tensors(batch).items()}
    few = Batch(**tensors, global_size=min(2, len(batch)))
    pair = members[:2]
    try:
        stack = Stack([member.lesson for member in pair], BESIDES)
        _terms(stack, [member.system for member in pair], few, [0, 0], 0)["loss"].sum().backward()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


def _terms(
    stack: Stack, systems: Sequence[Student], batch: Batch, seeds: Sequence[int], epoch: int
) -> dict[str, Tensor]:
    """The objective's terms, (K,) each, for the trials of all models, masked by their seeds."""
    members, (_, bins, channels) = len(systems), batch.observed.shape
    size = batch.global_size, bins, channels
    chances = [system.chance(size, seed, epoch) for system, seed in zip(systems, seeds, strict=True)]
    # What they draw differs, what they make of it does not.
    masked, labels = systems[0].hide(batch, joined(chances))

    def step(lesson: Lesson, tensors: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        return lesson(Batch(**tensors, global_size=size[0]), labels)

    tensors = {name: tensor.unflatten(0, (members, -1)) for name, tensor in _tensors(masked).items()}
    return stack(step, tensors, labels.unflatten(0, (members, -1)))


def _tensors(batch: Batch) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
