"""A teacher that generates activity from behavior."""

from collections.abc import Callable
from dataclasses import replace

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blend_pl.data.base import NeuralDataModule
from blend_pl.data.batch import Batch
from blend_pl.errors import ConfigError
from blend_pl.likelihoods import Likelihood, Poisson
from blend_pl.masking import Masking, MaskSample
from blend_pl.models.base import Dims, Encoding
from blend_pl.models.generator import PopulationGenerator
from blend_pl.systems.privileged import PrivilegedSystem
from blend_pl.systems.schedule import WarmupCosine


class GenerativeTeacher(PrivilegedSystem):
    """Fits a model that generates spikes from behavior and private latents.

    It is trained on all activity of the training trials with behavior, held-out neurons and forward bins included, and
    no entry is masked. When it is evaluated, it sees behavior and the observed activity, as `Teacher` does. As the
    teacher of a student it sees all activity of the training trials with behavior, and it can generate further trials.

    Args:
        backbone: builds the generative model.
        masking: entries that are unobserved in the validation of sessions without held-out neurons and forward bins;
            `privileged_dropout` has no effect.
        use_behavior: whether the model sees behavior; without it, only the time in the trial and private latents
            explain the activity, as a control.
        likelihood: observation model; only Poisson.
        optimizer: builds the optimizer from the parameters.
        schedule: builds the learning-rate schedule from the optimizer and the number of steps.

    Raises:
        ConfigError: the likelihood is not Poisson.
    """

    teaches_without_masks = True
    backbone: PopulationGenerator

    def __init__(
        self,
        backbone: Callable[[Dims], PopulationGenerator] = PopulationGenerator,
        masking: Masking = Masking(),  # noqa: B008
        use_behavior: bool = True,
        likelihood: Likelihood | None = None,
        optimizer: OptimizerCallable = AdamW,
        schedule: Callable[[Optimizer, int], LRScheduler] = WarmupCosine,
    ) -> None:
        super().__init__(backbone, masking, likelihood, optimizer, schedule)
        self.use_behavior = use_behavior
        if not isinstance(self.likelihood, Poisson):
            raise ConfigError(
                f"a GenerativeTeacher generates counts, and model.likelihood is {type(self.likelihood).__name__}; "
                "leave model.likelihood out, or train a Teacher"
            )

    def initialize_readout(self, datamodule: NeuralDataModule) -> None:
        """Sets the bias of the read-out to the mean activity, and tells the model the number of its training trials."""
        super().initialize_readout(datamodule)
        n_trials = sum(int(self._is_described(batch).sum()) for batch in datamodule.calibration_dataloader())
        self.backbone.n_trials.fill_(float(n_trials))

    def behavior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the behavior of a batch, all of it missing without `use_behavior`, and its mask."""
        behavior, valid = super().behavior(batch)
        return behavior, valid & self.use_behavior

    def encode(self, batch: Batch) -> Encoding:
        """Infers the latents from the observed activity and behavior."""
        _, bins, channels = batch.observed.shape
        encoding: Encoding = self.backbone(
            batch.observed, batch.target_valid[:, :bins, :channels], *self.behavior(batch)
        )
        return encoding

    def teach(self, batch: Batch) -> Encoding:
        """Infers the latents from all activity of the trials, whether masked or not, and behavior.

        The predictions are NaN for trials without behavior, which the model does not describe.
        """
        encoding: Encoding = self.backbone(batch.target, batch.target_valid, *self.behavior(batch))
        described = self._is_described(batch)[:, None, None]
        return replace(encoding, prediction=encoding.prediction.where(described, torch.nan))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        valid = batch.target_valid & self._is_described(batch)[:, None, None]
        losses = self.objective(self.backbone(batch.target, valid, *self.behavior(batch)), valid, batch)
        self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()}, batch_size=len(batch))
        total_loss: Tensor = losses["loss"]
        return total_loss

    def _is_described(self, batch: Batch) -> Tensor:
        """Returns (B,) bool: whether a trial has the behavior that the model needs."""
        if not self.use_behavior:
            return torch.ones(len(batch), dtype=torch.bool, device=batch.target.device)
        return self.behavior(batch)[1].flatten(1).any(1)

    def apply_mask(self, batch: Batch, mask_sample: MaskSample) -> tuple[Batch, Tensor]:
        """Makes the masked entries unobserved; see `PopulationSystem.apply_mask`."""
        _, bins, channels = batch.observed.shape
        _, loss_mask = super().apply_mask(batch, mask_sample)
        valid = batch.target_valid.clone()
        valid[:, :bins, :channels] &= ~mask_sample.masked
        return replace(batch, target_valid=valid), loss_mask

    @torch.no_grad()
    def sample(self, behavior: Tensor, behavior_valid: Tensor, generator: torch.Generator) -> Tensor:
        """Generates log rates of trials.

        Args:
            behavior: (B, T', D) behavior.
            behavior_valid: (B, T', D) bool, entries that were measured.
            generator: random generator of the private latents, on the device of the model.

        Returns:
            (B, T', N) log of the expected count per bin.
        """
        behavior_valid = behavior_valid & self.use_behavior
        n_latents = len(self.backbone.loading)
        noise = torch.randn(
            *behavior.shape[:2], n_latents, generator=generator, device=behavior.device, dtype=behavior.dtype
        )
        return self.backbone.sample_log_rates(behavior, behavior_valid, noise)
