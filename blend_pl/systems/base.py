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
from blend_pl.data.signature import MultiSessionSignature, Signature
from blend_pl.distillation.objective import MaskedReconstruction
from blend_pl.errors import ConfigError, DataError
from blend_pl.likelihoods import Likelihood, Poisson
from blend_pl.masking import Masking, MaskSample
from blend_pl.models.base import Dims, Encoding
from blend_pl.systems.schedule import WarmupCosine
from blend_pl.systems.seeding import derive_seed

SESSION_KEY, OBJECTIVE_PREFIX = "session", "objective."


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
    has_unused_parameters = False
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
        data_signature: Signature = self.trainer.datamodule.signature  # type: ignore[attr-defined]
        self.build(data_signature)
        assert self.signature is not None
        if not self.signature.is_compatible_with(data_signature):
            raise DataError(
                f"this model was trained on {self.signature}, the data are {data_signature}; choose its session"
            )
        if self.signature.unit_id[: data_signature.n_heldin] != data_signature.unit_id[: data_signature.n_heldin]:
            rank_zero_warn(
                f"this model was trained on {self.signature.name}, whose units have other ids than the data's"
            )
        self.seed = self.trainer.strategy.broadcast(torch.initial_seed())

    def has_required_inputs(self, has_behavior: bool) -> bool:
        """Whether a session, with behaviour or without, has what the network must see."""
        return True

    def encode(self, batch: Batch) -> Encoding:
        """What the network makes of a batch; it receives public information only."""
        return self.backbone(*batch.without_privileged().inputs())

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
        return self.apply_mask(
            batch, self.sample_mask((batch.global_size, bins, channels), seed, epoch).select(batch.global_rows)
        )

    def sample_mask(self, size: tuple[int, int, int], seed: int, epoch: int) -> MaskSample:
        """What chance hides of (trials, bins, channels) of a global batch; see `mask`."""
        return self.masking.sample(size, torch.Generator(self.device).manual_seed(seed), epoch)

    def apply_mask(self, batch: Batch, mask_sample: MaskSample) -> tuple[Batch, Tensor]:
        """Hides what chance says; see `mask`."""
        _, bins, channels = batch.observed.shape
        labels = torch.ones_like(batch.target_valid)
        labels[:, :bins, :channels] = mask_sample.masked
        privileged_valid = batch.privileged_valid
        if privileged_valid is not None and mask_sample.privileged_dropped is not None:
            privileged_valid = privileged_valid & ~mask_sample.privileged_dropped[:, None, None]
        observed = mask_sample.corrupt(batch.observed, self.likelihood.noise)
        return replace(batch, observed=observed, privileged_valid=privileged_valid), labels & batch.target_valid

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        seed = derive_seed(self.seed, self.current_epoch, batch_idx)
        masked, labels = self.mask(batch, seed, self.current_epoch)
        losses = self.objective(self.encode(masked), labels, masked)
        self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()}, batch_size=len(batch))
        return losses["loss"]

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(derive_seed(self.seed, self.current_epoch, self.global_rank))

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Expected counts per bin, (B, T', N); see `assess`."""
        rates = self.validate_batch(batch, batch_idx)
        self.log("val/loss", self.validation_loss, on_epoch=True, prog_bar=True)
        return rates

    def validate_batch(self, batch: Batch, batch_idx: int) -> Tensor:
        """Adds to the validation loss entries that are never observed; without any, entries hidden by a fixed mask.

        Returns:
            Expected counts per bin, (B, T', N).
        """
        batch, labels = self.validation_batch(batch, batch_idx)
        rates, entry_losses = self.predict_with_loss(batch, labels)
        self.validation_loss.update(entry_losses, labels)
        return rates

    def validation_batch(self, batch: Batch, batch_idx: int) -> tuple[Batch, Tensor]:
        """What is seen in validation, and the (B, T', N) labels: the entries of the validation loss; see `assess`."""
        _, bins, channels = batch.observed.shape
        if batch.target.shape[1:] == (bins, channels):
            return self.mask(batch, batch_idx, epoch=0)
        labels = batch.target_valid.clone()
        labels[:, :bins, :channels] = False
        return batch, labels

    def predict_with_loss(self, batch: Batch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Expected counts per bin, (B, T', N), and the loss of each entry that has a label, 0 elsewhere."""
        encoding = self.encode(batch)
        entry_losses = self.likelihood.loss(encoding.prediction, batch.target, encoding.log_variance)
        return self.likelihood.mean(encoding.prediction), torch.where(labels, entry_losses, 0.0)

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
        optimizer: Any = self.make_optimizer(self._trainable_parameters())
        # Fused ones would unscale gradients by themselves, so that Lightning could not clip them in mixed precision.
        optimizer._step_supports_amp_scaling = False
        schedule = self.make_schedule(optimizer, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _trainable_parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.signature is not None
        checkpoint[SESSION_KEY] = self.signature.to_dict()
        if "_instantiator" not in self.hparams:
            # Built in Python rather than from a config: its arguments are objects, which no checkpoint should hold.
            checkpoint.pop(self.CHECKPOINT_HYPER_PARAMS_KEY, None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.build(stored_signature(checkpoint))
        # Projectors of a distillation are there to resume it, and nobody else's concern.
        expected_keys, state = self.state_dict(), checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            k: v for k, v in state.items() if k in expected_keys or not k.startswith(OBJECTIVE_PREFIX)
        }


def stored_signature(checkpoint: dict[str, Any]) -> Signature:
    """The session, or the sessions, that a checkpoint's model was built for."""
    state = checkpoint[SESSION_KEY]
    return (MultiSessionSignature if "sessions" in state else Signature).from_dict(state)
