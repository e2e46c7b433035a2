"""Base class of systems of one population, which mask single entries of its activity."""

from collections.abc import Callable
from dataclasses import replace

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blend_pl.data.batch import Batch
from blend_pl.data.signature import Signature
from blend_pl.likelihoods import Likelihood
from blend_pl.masking import Masking, MaskSample
from blend_pl.models.base import Dims
from blend_pl.systems.base import NeuralSystem
from blend_pl.systems.schedule import WarmupCosine


class PopulationSystem(NeuralSystem[Batch, Dims]):
    """Masked modelling of one population: bins of units are masked and reconstructed.

    Args:
        backbone: builds the network from its sizes.
        masking: which entries are masked in training.
        likelihood: observation model; None for Poisson.
        optimizer: builds the optimizer from the parameters.
        schedule: builds the learning-rate schedule from the optimizer and the number of steps.
    """

    def __init__(
        self,
        backbone: Callable[[Dims], nn.Module],
        masking: Masking = Masking(),  # noqa: B008
        likelihood: Likelihood | None = None,
        optimizer: OptimizerCallable = AdamW,
        schedule: Callable[[Optimizer, int], LRScheduler] = WarmupCosine,
    ) -> None:
        super().__init__(backbone, likelihood, optimizer, schedule)
        self.masking = masking

    def dims(self, signature: Signature) -> Dims:
        bins = signature.n_observed + signature.n_forward
        return Dims(signature.n_heldin, signature.n_units, signature.n_observed, bins)

    def mask(self, batch: Batch, seed: int, epoch: int) -> tuple[Batch, Tensor]:
        """Masks entries of the observed activity and, with `Masking.privileged_dropout`, privileged input.

        Labels are the masked entries and all entries that are never observed; see `NeuralSystem.mask`.
        """
        _, bins, channels = batch.observed.shape
        return self.apply_mask(
            batch, self.sample_mask((batch.global_size, bins, channels), seed, epoch).select(batch.global_rows)
        )

    def sample_mask(self, size: tuple[int, int, int], seed: int, epoch: int) -> MaskSample:
        """Draws the mask of a global batch.

        Args:
            size: (trials, bins, channels) of the global batch.
            seed: seed of the mask.
            epoch: training epoch.
        """
        return self.masking.sample(size, torch.Generator(self.device).manual_seed(seed), epoch)

    def apply_mask(self, batch: Batch, mask_sample: MaskSample) -> tuple[Batch, Tensor]:
        """Applies a mask of the same B rows; returns what `mask` returns."""
        _, bins, channels = batch.observed.shape
        labels = torch.ones_like(batch.target_valid)
        labels[:, :bins, :channels] = mask_sample.masked
        privileged_valid = batch.privileged_valid
        if privileged_valid is not None and mask_sample.privileged_dropped is not None:
            privileged_valid = privileged_valid & ~mask_sample.privileged_dropped[:, None, None]
        observed = mask_sample.corrupt(batch.observed, self.likelihood.noise)
        return replace(batch, observed=observed, privileged_valid=privileged_valid), labels & batch.target_valid

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Adds a batch to the validation loss; see `validate_batch`."""
        rates = self.validate_batch(batch, batch_idx)
        self.log("val/loss", self.validation_loss, on_epoch=True, prog_bar=True)
        return rates

    def validate_batch(self, batch: Batch, batch_idx: int) -> Tensor:
        """Adds the entries of `validation_batch` to the validation loss.

        Returns:
            Expected counts per bin, (B, T', N).
        """
        batch, labels = self.validation_batch(batch, batch_idx)
        rates, entry_losses = self.predict_with_loss(batch, labels)
        self.validation_loss.update(entry_losses, labels)
        return rates

    def validation_batch(self, batch: Batch, batch_idx: int) -> tuple[Batch, Tensor]:
        """Returns the input of validation and its labels, (B, T', N) bool.

        If the target has entries that are never observed (held-out units, forward bins), these are the labels and
        nothing is masked; otherwise the labels are the entries of a fixed mask.
        """
        _, bins, channels = batch.observed.shape
        if batch.target.shape[1:] == (bins, channels):
            return self.mask(batch, batch_idx, epoch=0)
        labels = batch.target_valid.clone()
        labels[:, :bins, :channels] = False
        return batch, labels

    def predict_with_loss(self, batch: Batch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns expected counts per bin and the loss of each labelled entry, 0 elsewhere; (B, T', N) each."""
        encoding = self.encode(batch)
        entry_losses = self.likelihood.loss(encoding.prediction, batch.target, encoding.log_variance)
        return self.likelihood.mean(encoding.prediction), torch.where(labels, entry_losses, 0.0)
