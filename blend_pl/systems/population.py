"""Base class of systems of one recorded population; single entries of its activity are masked."""

from collections.abc import Callable
from dataclasses import replace

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blend_pl.data.base import NeuralDataModule
from blend_pl.data.batch import Batch
from blend_pl.data.signature import Signature
from blend_pl.likelihoods import Likelihood
from blend_pl.masking import Masking, MaskSample
from blend_pl.models.base import Dims
from blend_pl.systems.base import NeuralSystem
from blend_pl.systems.schedule import WarmupCosine


class PopulationSystem(NeuralSystem[Batch, Dims]):
    """Base class of systems that reconstruct masked entries (bins of units) of the activity of one population.

    Args:
        backbone: builds the network from the sizes of its input and output.
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
        return Dims(signature.n_heldin, signature.n_units, signature.n_observed, bins, bin_ms=signature.bin_ms)

    def initialize_readout(self, datamodule: NeuralDataModule) -> None:
        """Sets the bias of a linear read-out, if the backbone has one, to the mean activity of each neuron.

        Otherwise the first hundreds of steps are needed to find the mean rates. A read-out is an attribute `readout` of
        the backbone, an `nn.Linear` to the N neurons.
        """
        readout = getattr(self.backbone, "readout", None)
        assert self.signature is not None
        if not isinstance(readout, nn.Linear) or readout.bias is None:
            return
        if readout.out_features != self.signature.n_units:
            return
        total, count = torch.zeros(readout.out_features), torch.zeros(readout.out_features)
        for batch in datamodule.calibration_dataloader():
            total += torch.where(batch.target_valid, batch.target, 0.0).sum((0, 1)).cpu()
            count += batch.target_valid.sum((0, 1)).cpu()
        with torch.no_grad():
            readout.bias.copy_(self.likelihood.prediction(total / count.clamp(min=1)))

    def mask(self, batch: Batch, seed: int, epoch: int) -> tuple[Batch, Tensor]:
        """Masks entries of the observed activity and, with `Masking.privileged_dropout`, privileged input.

        The loss mask selects the masked entries and all entries that are never observed; see `NeuralSystem.mask`.
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
        """Applies a mask of B rows to a batch of B rows; returns the masked batch and the loss mask, see `mask`."""
        _, bins, channels = batch.observed.shape
        loss_mask = torch.ones_like(batch.target_valid)
        loss_mask[:, :bins, :channels] = mask_sample.masked
        privileged_valid = batch.privileged_valid
        if privileged_valid is not None and mask_sample.privileged_dropped is not None:
            privileged_valid = privileged_valid & ~mask_sample.privileged_dropped[:, None, None]
        observed = mask_sample.corrupt(batch.observed, self.likelihood.noise)
        return replace(batch, observed=observed, privileged_valid=privileged_valid), loss_mask & batch.target_valid

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Adds a batch to the validation loss; see `update_validation_loss`."""
        rates = self.update_validation_loss(batch, batch_idx)
        self.log("val/loss", self.validation_loss, on_epoch=True, prog_bar=True)
        return rates

    def update_validation_loss(self, batch: Batch, batch_idx: int) -> Tensor:
        """Adds the entries selected by `mask_for_validation` to the validation loss.

        Returns:
            Expected values per bin (counts for a Poisson likelihood), (B, T', N).
        """
        batch, loss_mask = self.mask_for_validation(batch, batch_idx)
        rates, entry_losses = self.predict_with_loss(batch, loss_mask)
        self.validation_loss.update(entry_losses, loss_mask)
        return rates

    def mask_for_validation(self, batch: Batch, batch_idx: int) -> tuple[Batch, Tensor]:
        """Returns the batch to encode in validation and the mask of the entries in the loss, (B, T', N) bool.

        If the target has entries that are never observed (held-out units, forward bins), the loss mask selects these
        and no input is masked. Otherwise a fixed mask is applied, and the loss mask selects its entries.
        """
        _, bins, channels = batch.observed.shape
        if batch.target.shape[1:] == (bins, channels):
            return self.mask(batch, batch_idx, epoch=0)
        loss_mask = batch.target_valid.clone()
        loss_mask[:, :bins, :channels] = False
        return batch, loss_mask

    def predict_with_loss(self, batch: Batch, loss_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns expected values and the losses of the entries in `loss_mask` (0 elsewhere); (B, T', N) each."""
        encoding = self.encode(batch)
        entry_losses = self.likelihood.loss(encoding.prediction, batch.target, encoding.log_variance)
        return self.likelihood.mean(encoding.prediction), torch.where(loss_mask, entry_losses, 0.0)
