"""The control that uses behaviour as a target instead of a teacher's input."""

from torch import Tensor, nn

from blend_pl.data.batch import Batch
from blend_pl.distillation.decoding import decoding_error
from blend_pl.models.base import Encoding


class MultitaskObjective(nn.Module):
    """Reconstruction plus decoding: a linear head reads behaviour off the student's latents at training time.

    Args:
        reconstruction: gives the loss of a student on its own.
        latent_dim: H, width of the latents.
        n_privileged: D, privileged channels.
        weight: of the decoding error, which is 1 for a student that knows only the mean behaviour.
    """

    def __init__(self, reconstruction: nn.Module, latent_dim: int, n_privileged: int, weight: float) -> None:
        super().__init__()
        self.reconstruction, self.weight = reconstruction, weight
        self.head = nn.Linear(latent_dim, n_privileged)

    def forward(self, encoding: Encoding, labels: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Scores a batch; see `MaskedReconstruction`. Adds the term "decoding", the mean squared error where known."""
        losses = self.reconstruction(encoding, labels, batch)
        assert batch.privileged is not None
        assert batch.privileged_valid is not None
        decoding = decoding_error(self.head(encoding.latents), batch.privileged, batch.privileged_valid)
        return {**losses, "loss": losses["loss"] + self.weight * decoding, "decoding": decoding}
