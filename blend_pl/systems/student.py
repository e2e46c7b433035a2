"""The student: neural activity in, neural activity out."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from blend_pl.data.batch import Batch
from blend_pl.data.lfp.signature import SessionSet
from blend_pl.data.nlb.session import Signature
from blend_pl.distillation.objective import MaskedReconstruction
from blend_pl.errors import ConfigError, DataError
from blend_pl.likelihoods import Likelihood, Poisson
from blend_pl.masking import Chance, Masking
from blend_pl.models.base import Dims, Encoding
from blend_pl.systems.schedule import WarmupCosine
from blend_pl.systems.seeding import seed_of

SESSION, OBJECTIVE = "session", "objective."


class Student(L.LightningModule):
    """Masked modelling of neural activity; what it minimises is `objective`, which a callback may replace.

    The network is built once the session's sizes are known: from the data module, or from a checkpoint. Chance in
    training depends on the seed, the epoch and the batch alone.

    Args:
        backbone: builds the network from its sizes.
        masking: who is hidden in training.
        likelihood: observation model; None for Poisson.
        optimizer: builds the optimiser from the parameters.
        schedule: builds the learning-rate schedule from the optimiser and the number of steps.
    """

    objective: nn.Module
    idle_parameters = False
    """Whether a step may leave parameters without a gradient, for which several processes must then look."""

    def __init__(
        self,
        backbone: Callable[[Dims], nn.Module],
        masking: Masking = Masking(),  # noqa: B008
        likelihood: Likelihood | None = None,
        optimizer: OptimizerCallable = AdamW,
        schedule: Callable[[Optimizer, int], LRScheduler] = WarmupCosine,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.make_backbone, self.make_optimizer, self.make_schedule = backbone, optimizer, schedule
        self.masking, self.likelihood = masking, likelihood or Poisson()
        self.objective = MaskedReconstruction(self.likelihood)
        self.validation_loss = MeanMetric()
        self.signature: Signature | None = None
        self.seed = 0

    def build(self, signature: Signature) -> None:
        """Builds the network for a session, once."""
        if self.signature is None:
            self.signature = signature
            self.backbone = self.build_backbone(self.dims(signature))

    def build_backbone(self, dims: Dims) -> nn.Module:
        """The network of these sizes."""
        return self.make_backbone(dims)

    def dims(self, signature: Signature) -> Dims:
        """The network's sizes for a session; a student has no context."""
        bins = signature.n_observed + signature.n_forward
        return Dims(signature.n_heldin, signature.n_units, signature.n_observed, bins)

    def setup(self, stage: str) -> None:
        """Builds the network for the data module's session.

        Raises:
            DataError: the network was built for other sizes.
        """
        session: Signature = self.trainer.datamodule.signature  # type: ignore[attr-defined]
        self.build(session)
        assert self.signature is not None
        if not self.signature.accepts(session):
            raise DataError(f"this model was trained on {self.signature}, the data are {session}; choose its session")
        if self.signature.unit_id[: session.n_heldin] != session.unit_id[: session.n_heldin]:
            rank_zero_warn(
                f"this model was trained on {self.signature.name}, whose units have other ids than the data's"
            )
        self.seed = self.trainer.strategy.broadcast(torch.initial_seed())

    def can_predict(self, behavior: bool) -> bool:
        """Whether a session, with behaviour or without, has what the network must see."""
        return True

    def encode(self, batch: Batch) -> Encoding:
        """What the network makes of a batch; it receives public information only."""
        return self.backbone(*batch.public().inputs())

    def mask(self, batch: Batch, seed: int, epoch: int) -> tuple[Batch, Tensor]:
        """Hides a part of the observed activity, and where the masking says so, of the privileged input.

        Masks are drawn for the whole global batch, of which each rank keeps its rows: a trial's mask does not depend
        on how trials are divided over ranks.

        Args:
            batch: trials.
            seed: seed of the mask.
            epoch: training epoch, for masks that change over training.

        Returns:
            The masked batch, and the (B, T', N) labels: hidden entries, and all that is never observed.
        """
        _, bins, channels = batch.observed.shape
        return self.hide(batch, self.chance((batch.global_size, bins, channels), seed, epoch).of(batch.rows))

    def chance(self, size: tuple[int, int, int], seed: int, epoch: int) -> Chance:
        """What chance hides of (trials, bins, channels) of a global batch; see `mask`."""
        return self.masking.chance(size, torch.Generator(self.device).manual_seed(seed), epoch)

    def hide(self, batch: Batch, chance: Chance) -> tuple[Batch, Tensor]:
        """Hides what chance says; see `mask`."""
        _, bins, channels = batch.observed.shape
        labels = torch.ones_like(batch.target_valid)
        labels[:, :bins, :channels] = chance.hidden
        privileged_valid = batch.privileged_valid
        if privileged_valid is not None and chance.forgotten is not None:
            privileged_valid = privileged_valid & ~chance.forgotten[:, None, None]
        observed = chance.corrupt(batch.observed, self.likelihood.noise)
        return replace(batch, observed=observed, privileged_valid=privileged_valid), labels & batch.target_valid

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        seed = seed_of(self.seed, self.current_epoch, batch_idx)
        masked, labels = self.mask(batch, seed, self.current_epoch)
        terms = self.objective(self.encode(masked), labels, masked)
        self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=len(batch))
        return terms["loss"]

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(seed_of(self.seed, self.current_epoch, self.global_rank))

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Expected counts per bin, (B, T', N); see `assess`."""
        rates = self.assess(batch, batch_idx)
        self.log("val/loss", self.validation_loss, on_epoch=True, prog_bar=True)
        return rates

    def assess(self, batch: Batch, batch_idx: int) -> Tensor:
        """Adds to the validation loss entries that are never observed; without any, entries hidden by a fixed mask.

        Returns:
            Expected counts per bin, (B, T', N).
        """
        batch, labels = self.exam(batch, batch_idx)
        rates, entries = self.answers(batch, labels)
        self.validation_loss.update(entries, labels)
        return rates

    def exam(self, batch: Batch, batch_idx: int) -> tuple[Batch, Tensor]:
        """What is seen in validation, and the (B, T', N) labels: the entries of the validation loss; see `assess`."""
        _, bins, channels = batch.observed.shape
        if batch.target.shape[1:] == (bins, channels):
            return self.mask(batch, batch_idx, epoch=0)
        labels = batch.target_valid.clone()
        labels[:, :bins, :channels] = False
        return batch, labels

    def answers(self, batch: Batch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Expected counts per bin, (B, T', N), and the loss of each entry that has a label, 0 elsewhere."""
        encoding = self.encode(batch)
        entries = self.likelihood.loss(encoding.prediction, batch.target, encoding.log_variance)
        return self.likelihood.mean(encoding.prediction), torch.where(labels, entries, 0.0)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Expected counts per bin, (B, T', N)."""
        return self.likelihood.mean(self.encode(batch).prediction)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Expected counts per bin, (B, T', N); what they are worth is the evaluation callback's matter."""
        return self.predict_step(batch, batch_idx, dataloader_idx)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ConfigError("the learning-rate schedule needs an end of training; set trainer.max_epochs")
        optimizer: Any = self.make_optimizer(self._trained())
        # Fused ones would unscale gradients by themselves, so that Lightning could not clip them in mixed precision.
        optimizer._step_supports_amp_scaling = False
        schedule = self.make_schedule(optimizer, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _trained(self) -> Iterator[nn.Parameter]:
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.signature is not None
        checkpoint[SESSION] = self.signature.stored()
        if "_instantiator" not in self.hparams:
            # Built in Python rather than from a config: its arguments are objects, which no checkpoint should hold.
            checkpoint.pop(self.CHECKPOINT_HYPER_PARAMS_KEY, None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.build(stored_signature(checkpoint))
        # Projectors of a distillation are there to resume it, and nobody else's concern.
        own, state = self.state_dict(), checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if k in own or not k.startswith(OBJECTIVE)}


def stored_signature(checkpoint: dict[str, Any]) -> Signature:
    """The session, or the sessions, that a checkpoint's model was built for."""
    stored = checkpoint[SESSION]
    return (SessionSet if "sessions" in stored else Signature).restored(stored)
