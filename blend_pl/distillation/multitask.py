"""The multitask control, which uses behavior as a target instead of as the input of a teacher."""

from torch import Tensor, nn

from blend_pl.data.batch import Batch
from blend_pl.distillation.decoding import decoding_error
from blend_pl.models.base import Encoding


class MultitaskObjective(nn.Module):
    """Reconstruction plus behavior decoding: a linear head decodes behavior from the latents during training.

    Args:
        reconstruction: the objective of a student without a teacher.
        latent_dim: H, width of the latents.
        n_privileged: D, number of privileged channels.
        weight: weight of the decoding error, which is 1 for a constant prediction of the mean behavior.
    """

    def __init__(self, reconstruction: nn.Module, latent_dim: int, n_privileged: int, weight: float) -> None:
        super().__init__()
        self.reconstruction, self.weight = reconstruction, weight
        self.head = nn.Linear(latent_dim, n_privileged)

    def forward(self, encoding: Encoding, loss_mask: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Scores a batch; see `MaskedReconstruction`. Adds "decoding", the mean squared error over valid entries."""
        losses = self.reconstruction(encoding, loss_mask, batch)
        assert batch.privileged is not None
        assert batch.privileged_valid is not None
        decoding = decoding_error(self.head(encoding.latents), batch.privileged, batch.privileged_valid)
        return {**losses, "loss": losses["loss"] + self.weight * decoding, "decoding": decoding}
