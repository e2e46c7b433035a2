"""Behaviour as a target, and the supervised setting, in which it takes the place of the reconstruction."""

import torch
from torch import Tensor, nn

from blend_pl.data.lfp.batches import SessionBatch
from blend_pl.models.base import Encoding
from blend_pl.utils.distributed import distributed_mean


def decoding_error(decoded: Tensor, behavior: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error of decoded behaviour where it is known, over all ranks; (B, T', D) each."""
    return distributed_mean(torch.where(valid, (decoded - behavior).square(), 0.0).sum(), valid.sum())


class BehaviorRegression(nn.Module):
    """Mean squared error of behaviour read off the latents by a linear head (Erturk et al., 2025, supervised).

    Args:
        latent_dim: H, width of the latents.
        n_behavior: D, channels of behaviour.
    """

    def __init__(self, latent_dim: int, n_behavior: int) -> None:
        super().__init__()
        self.head = nn.Linear(latent_dim, n_behavior)

    def forward(self, encoding: Encoding, labels: Tensor, batch: SessionBatch) -> dict[str, Tensor]:
        """Scores a batch.

        Args:
            encoding: of the batch.
            labels: not read.
            batch: whose behaviour is known where it is valid.

        Returns:
            The term "decoding", which is 1 for a student that knows only the mean, and the "loss", which is the same.
        """
        decoding = decoding_error(self.head(encoding.latents), batch.behavior, batch.behavior_valid)
        return {"loss": decoding, "decoding": decoding}
