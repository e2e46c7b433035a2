"""The control that uses behaviour as a target instead of a teacher's input."""

import torch
from torch import Tensor, nn

from blend_pl.data.batch import Batch
from blend_pl.models.contract import Encoding
from blend_pl.reduction import global_mean


class MultitaskObjective(nn.Module):
    """Reconstruction plus decoding: a linear head reads behaviour off the student's latents at training time.

    Args:
        reconstruction: gives the loss of a student on its own.
        latents: H, width of the latents.
        channels: D, privileged channels.
        weight: of the decoding error, which is 1 for a student that knows only the mean behaviour.
    """

    def __init__(self, reconstruction: nn.Module, latents: int, channels: int, weight: float) -> None:
        super().__init__()
        self.reconstruction, self.weight = reconstruction, weight
        self.head = nn.Linear(latents, channels)

    def forward(self, encoding: Encoding, labels: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Scores a batch; see `MaskedReconstruction`. Adds the term "decoding", the mean squared error where known."""
        terms = self.reconstruction(encoding, labels, batch)
        assert batch.privileged is not None
        assert batch.privileged_valid is not None
        errors = (self.head(encoding.latents) - batch.privileged).square()
        known = batch.privileged_valid
        decoding = global_mean(torch.where(known, errors, 0.0).sum(), known.sum())
        return {**terms, "loss": terms["loss"] + self.weight * decoding, "decoding": decoding}
