"""Decoding of behavior from latents, as a training objective."""

import torch
from torch import Tensor, nn

from blend_pl.data.lfp.batches import SessionBatch
from blend_pl.models.base import Encoding
from blend_pl.utils.distributed import distributed_mean


def decoding_error(decoded: Tensor, behavior: Tensor, valid: Tensor) -> Tensor:
    """Returns the mean squared error of decoded behavior over valid entries and all ranks.

    Args:
        decoded: (B, T', D).
        behavior: (B, T', D), z-scored.
        valid: (B, T', D) bool, entries that were measured.
    """
    return distributed_mean(torch.where(valid, (decoded - behavior).square(), 0.0).sum(), valid.sum())


class BehaviorRegression(nn.Module):
    """Mean squared error of behavior decoded linearly from latents (Erturk et al., 2025, supervised training).

    Args:
        latent_dim: H, width of the latents.
        n_behavior: D, number of behavioral channels.
    """

    def __init__(self, latent_dim: int, n_behavior: int) -> None:
        super().__init__()
        self.head = nn.Linear(latent_dim, n_behavior)

    def forward(self, encoding: Encoding, loss_mask: Tensor, batch: SessionBatch) -> dict[str, Tensor]:
        """Scores a batch.

        Args:
            encoding: encoding of the batch, with latents.
            loss_mask: ignored.
            batch: batch with `behavior` and `behavior_valid`.

        Returns:
            The term "decoding", which is 1 for a constant prediction of the mean, and the same number as "loss".
        """
        decoding = decoding_error(self.head(encoding.latents), batch.behavior, batch.behavior_valid)
        return {"loss": decoding, "decoding": decoding}
