"""Joint reconstruction of spikes and field potentials."""

from dataclasses import replace

from torch import Tensor, nn

from blend_pl.data.lfp.batches import JointBatch
from blend_pl.distillation.objective import MaskedReconstruction
from blend_pl.likelihoods import Poisson, UnitGaussian
from blend_pl.models.base import Encoding
from blend_pl.utils.checks import NON_NEGATIVE, check_range


class JointReconstruction(nn.Module):
    """Sum of the mean Poisson negative log-likelihood of masked counts and the weighted squared error of masked LFP.

    Args:
        lfp_weight: weight of the squared error of the LFP.
    """

    def __init__(self, lfp_weight: float) -> None:
        super().__init__()
        check_range(NON_NEGATIVE, lfp_weight=lfp_weight)
        self.spikes, self.lfp = MaskedReconstruction(Poisson()), MaskedReconstruction(UnitGaussian())
        self.lfp_weight = lfp_weight

    def forward(self, encoding: Encoding, loss_mask: Tensor, batch: JointBatch) -> dict[str, Tensor]:
        """Scores a batch.

        Args:
            encoding: encoding of the masked batch.
            loss_mask: (B, T, N + C) bool, entries to score.
            batch: the masked batch.

        Returns:
            The term "spikes" in nats, the term "lfp", and the "loss" to minimize.
        """
        losses = {}
        for name, columns in (("spikes", slice(batch.n_units)), ("lfp", slice(batch.n_units, None))):
            modality_encoding = replace(encoding, prediction=encoding.prediction[..., columns])
            modality_batch = replace(batch, target=batch.target[..., columns])
            losses[name] = getattr(self, name)(modality_encoding, loss_mask[..., columns], modality_batch)["loss"]
        return {"loss": losses["spikes"] + self.lfp_weight * losses["lfp"], **losses}
