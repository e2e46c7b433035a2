"""Base class of all systems: building, masking, steps, optimizers and checkpoints."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric
from typing_extensions import TypeVar

from blend_pl.compat import upgrade_state_dict
from blend_pl.data.base import NeuralDataModule, datamodule_of
from blend_pl.data.batch import Batch
from blend_pl.data.signature import MultiSessionSignature, Signature
from blend_pl.distillation.objective import MaskedReconstruction
from blend_pl.errors import ConfigError, DataError
from blend_pl.likelihoods import Likelihood, Poisson
from blend_pl.models.base import Dims, Encoding
from blend_pl.runs.digest import DIGEST_KEY, other_data_message
from blend_pl.systems.schedule import WarmupCosine
from blend_pl.systems.seeding import derive_seed
from blend_pl.systems.settings import describe_system
from blend_pl.utils.quiet import quiet_libraries

SESSION_KEY, OBJECTIVE_PREFIX = "session", "objective."
INSTANTIATOR_KEY, INSTANTIATOR = "_instantiator", "lightning.pytorch.cli.instantiate_module"
"""Hyper-parameter with which Lightning builds a system from its settings, and the function that builds it."""

BatchT = TypeVar("BatchT", bound=Batch, default=Any)
"""Type of the batches of a system."""
DimsT = TypeVar("DimsT", bound=Dims, default=Any)
"""Type of the sizes that its backbone is built from."""


class NeuralSystem(L.LightningModule, ABC, Generic[BatchT, DimsT]):
    """Masked modelling of neural activity: base class of students and teachers.

    The network is built when the sizes of the session are known: from the data module or from a checkpoint. Random
    numbers in training depend on the seed, the epoch and the batch only.

    Args:
        backbone: builds the network from its sizes.
        likelihood: observation model; None for `default_likelihood`.
        optimizer: builds the optimizer from the parameters.
        schedule: builds the learning-rate schedule from the optimizer and the number of steps.

    Attributes:
        objective: the loss to minimize; a callback may replace it.
        signature: the session of the network; None before `build`.
        seed: seed of the run, set by `setup`.
        data_digest: digest of the data of the training, see `NeuralDataModule.digest`; None before training and for
            checkpoints of version 0.1.
    """

    default_likelihood: type[Likelihood] = Poisson
    """Observation model if none is given."""
    requires_privileged = False
    """Whether the input contains privileged activity or behavior, as that of a teacher does."""
    teaches_without_masks = False
    """Whether `teach` sees the target instead of the masked input, so that it is the same in all epochs."""
    has_unused_parameters = False
    """Whether a step may leave parameters without a gradient (`find_unused_parameters` of DDP)."""

    objective: nn.Module

    def __init__(
        self,
        backbone: Callable[[DimsT], nn.Module],
        likelihood: Likelihood | None = None,
        optimizer: OptimizerCallable = AdamW,
        schedule: Callable[[Optimizer, int], LRScheduler] = WarmupCosine,
    ) -> None:
        super().__init__()
        with quiet_libraries():
            self.save_hyperparameters(logger=False)
        self.make_backbone, self.make_optimizer, self.make_schedule = backbone, optimizer, schedule
        self.likelihood = likelihood or self.default_likelihood()
        self.objective = MaskedReconstruction(self.likelihood)
        self.validation_loss = MeanMetric()
        self.signature: Signature | None = None
        self.seed = 0
        self.data_digest: str | None = None

    def extra_repr(self) -> str:
        """Returns the line of `repr` that says which session the network is built for."""
        return "no network yet: trainer.fit builds it for its data" if self.signature is None else str(self.signature)

    def build(self, signature: Signature) -> None:
        """Builds the network for a session; does nothing if it is built already."""
        if self.signature is None:
            self.signature = signature
            self.backbone = self.build_backbone(self.dims(signature))

    def build_for(self, datamodule: NeuralDataModule) -> None:
        """Builds the network for training on the session of a data module; does nothing if it is built already."""
        if self.signature is None:
            self.build(datamodule.signature)
            self.initialize_readout(datamodule)

    def initialize_readout(self, datamodule: NeuralDataModule) -> None:
        """Sets initial parameters that depend on the training data; does nothing by default."""

    def build_backbone(self, dims: DimsT) -> nn.Module:
        """Returns a new network of these sizes."""
        return self.make_backbone(dims)

    @abstractmethod
    def dims(self, signature: Signature) -> DimsT:
        """Returns the sizes of the network for a session."""

    def setup(self, stage: str) -> None:
        """Builds the network for the session of the data module.

        Raises:
            DataError: the network was built for other sizes.
        """
        datamodule = datamodule_of(self.trainer)
        data_signature = datamodule.signature
        if stage == "fit":
            self.build_for(datamodule)
            self.data_digest = datamodule.digest
        else:
            self.build(data_signature)
        assert self.signature is not None
        if not self.signature.is_compatible_with(data_signature):
            raise DataError(
                f"this model was trained on {self.signature}, the data are {data_signature}; choose its session"
            )
        if self.signature.unit_id[: data_signature.n_heldin] != data_signature.unit_id[: data_signature.n_heldin]:
            rank_zero_warn(
                f"this model was trained on {self.signature.name}; its units have other ids than those of the data"
            )
        self.seed = self.trainer.strategy.broadcast(torch.initial_seed())

    def has_required_inputs(self, has_behavior: bool) -> bool:
        """Whether a session, with or without behavior, has all inputs of the network."""
        return True

    def encode(self, batch: BatchT) -> Encoding:
        """Encodes a batch; the network of a student receives no privileged input."""
        encoding: Encoding = self.backbone(*batch.without_privileged().inputs())
        return encoding

    def teach(self, batch: BatchT) -> Encoding:
        """Encodes a batch as the teacher of a student; by default the same as `encode`."""
        return self.encode(batch)

    @abstractmethod
    def mask(self, batch: BatchT, seed: int, epoch: int) -> tuple[BatchT, Tensor]:
        """Masks a part of a batch.

        Masks are drawn for the global batch, and each rank selects its rows: the mask of a row does not depend on the
        number of ranks.

        Args:
            batch: B trials, windows or segments.
            seed: seed of the mask.
            epoch: training epoch, for masks that change over training.

        Returns:
            The masked batch, and the mask of the entries in the loss, (B, T', N) bool.
        """

    def training_step(self, batch: BatchT, batch_idx: int) -> Tensor:
        seed = derive_seed(self.seed, self.current_epoch, batch_idx)
        masked, loss_mask = self.mask(batch, seed, self.current_epoch)
        losses = self.objective(self.encode(masked), loss_mask, masked)
        self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()}, batch_size=len(batch))
        total_loss: Tensor = losses["loss"]
        return total_loss

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(derive_seed(self.seed, self.current_epoch, self.global_rank))

    @abstractmethod
    def validation_step(self, batch: BatchT, batch_idx: int) -> Tensor | None:
        """Adds a batch to the validation loss.

        Returns:
            Expected counts per bin, (B, T', N), if validation metrics need them.
        """

    def predict_step(self, batch: BatchT, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns expected counts per bin, (B, T', N)."""
        return self.likelihood.mean(self.encode(batch).prediction)

    def test_step(self, batch: BatchT, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns expected counts per bin, (B, T', N); the evaluation callback scores them."""
        return self.predict_step(batch, batch_idx, dataloader_idx)

    def on_test_start(self) -> None:
        self._warn_of_other_data()

    def on_predict_start(self) -> None:
        self._warn_of_other_data()

    def _warn_of_other_data(self) -> None:
        """Warns if the data are not those of the training."""
        message = other_data_message("this model", self.data_digest, datamodule_of(self.trainer).digest)
        if message is not None:
            rank_zero_warn(message)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ConfigError("the learning-rate schedule needs an end of training; set trainer.max_epochs")
        optimizer: Any = self.make_optimizer(self._trainable_parameters())
        # Fused optimizers unscale gradients themselves, and Lightning then refuses to clip them in mixed precision.
        # torch has no public way to turn this off.
        optimizer._step_supports_amp_scaling = False
        schedule = self.make_schedule(optimizer, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _trainable_parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.signature is not None
        checkpoint[SESSION_KEY] = self.signature.to_dict()
        checkpoint[DIGEST_KEY] = self.data_digest
        if INSTANTIATOR_KEY in self.hparams:
            return
        # The arguments of a system that was built in Python are objects, which a safe checkpoint cannot contain.
        settings = describe_system(type(self), self.hparams)
        if settings is None:
            checkpoint.pop(self.CHECKPOINT_HYPER_PARAMS_KEY, None)
        else:
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = {INSTANTIATOR_KEY: INSTANTIATOR, **settings}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Builds the network of a checkpoint.

        Raises:
            DataError: training would continue on other data.
        """
        self.build(stored_signature(checkpoint))
        self._load_data_digest(checkpoint.get(DIGEST_KEY))
        # Only a resumed distillation has projectors; all other uses of the checkpoint ignore them.
        expected_keys = self.state_dict().keys()
        state = upgrade_state_dict(checkpoint["state_dict"], expected_keys)
        checkpoint["state_dict"] = {
            k: v for k, v in state.items() if k in expected_keys or not k.startswith(OBJECTIVE_PREFIX)
        }

    def _load_data_digest(self, stored: str | None) -> None:
        # In a training that continues from a checkpoint, `setup` has set the digest of the data.
        message = other_data_message("the checkpoint", stored, self.data_digest)
        if message is not None:
            raise DataError(
                f"{message}, so training cannot continue from it; train again in another folder, or restore the "
                "recording"
            )
        self.data_digest = self.data_digest or stored


def stored_signature(checkpoint: dict[str, Any]) -> Signature:
    """Returns the session, or the set of sessions, that the model of a checkpoint was built for."""
    state = checkpoint[SESSION_KEY]
    return (MultiSessionSignature if "sessions" in state else Signature).from_dict(state)
