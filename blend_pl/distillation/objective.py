"""Training objectives: masked reconstruction, alone or mixed with distillation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from blend_pl.data.batch import Batch
from blend_pl.distillation.losses import DistillationLoss
from blend_pl.likelihoods import Likelihood
from blend_pl.models.base import Encoding
from blend_pl.utils.distributed import distributed_mean


class MaskedReconstruction(nn.Module):
    """Masked time-series modeling (MTM, BLEND): mean negative log-likelihood over the labeled entries, in nats.

    The penalty of the backbone, `Encoding.penalty`, is added; for a variational backbone the sum is the negative
    evidence lower bound per entry.

    Args:
        likelihood: observation model.

    Example:
        >>> import torch
        >>> from blend_pl.likelihoods import Poisson
        >>> counts = torch.tensor([[[0.0], [2.0]]])
        >>> batch = Batch(counts, counts, counts >= 0, torch.arange(1), torch.arange(1), global_size=1)
        >>> objective = MaskedReconstruction(Poisson())
        >>> objective(Encoding(torch.zeros_like(counts)), batch.target_valid, batch)
        {'loss': tensor(1.), 'mtm': tensor(1.)}
    """

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, encoding: Encoding, loss_mask: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Scores a batch.

        Args:
            encoding: encoding of the masked batch.
            loss_mask: (B, T', N) bool, entries to score.
            batch: the masked batch; its target is not masked.

        Returns:
            The term "mtm", the term "penalty" if the backbone has one, and their sum, the "loss" to minimize.
        """
        entry_losses = self.likelihood.loss(encoding.prediction, batch.target, encoding.log_variance)
        mtm = distributed_mean(torch.where(loss_mask, entry_losses, 0.0).sum(), loss_mask.sum())
        if encoding.penalty is None:
            return {"loss": mtm, "mtm": mtm}
        penalty = distributed_mean(encoding.penalty.sum(), len(encoding.penalty))
        return {"loss": mtm + penalty, "mtm": mtm, "penalty": penalty}


def has_targets(predictions: Tensor) -> Tensor:
    """Returns (B,) bool: whether the (B, T', N) predictions of a teacher contain no NaN."""
    return ~predictions.isnan().flatten(1).any(1)


class MixedObjective(nn.Module):
    """alpha * MTM + (1 - alpha) * D(student, teacher) (BLEND); MTM includes the penalty of the backbone.

    The input of the teacher is the same masked activity and the privileged input, unless the batch has predictions of
    the teacher already, `Batch.teacher_prediction`; D is 0 for a trial for which these are NaN. The teacher is not a
    submodule, so that its weights are neither in the optimizer nor in the checkpoint of the student; it receives no
    gradients.

    Args:
        reconstruction: computes MTM.
        loss: computes D.
        teacher: frozen; maps a batch with privileged input to an encoding.
        alpha: weight of MTM.
    """

    alpha: Tensor

    def __init__(
        self, reconstruction: nn.Module, loss: DistillationLoss, teacher: Callable[[Batch], Encoding], alpha: float
    ) -> None:
        super().__init__()
        self.reconstruction, self.loss, self.teacher = reconstruction, loss, teacher
        # A tensor, so that stacked replicas can have different values.
        self.register_buffer("alpha", torch.tensor(alpha), persistent=False)

    def forward(self, encoding: Encoding, loss_mask: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Scores a batch; see `MaskedReconstruction`. Adds the term "distillation"."""
        losses = self.reconstruction(encoding, loss_mask, batch)
        if batch.teacher_prediction is not None:
            taught = has_targets(batch.teacher_prediction)[:, None, None]
            teacher_encoding = Encoding(batch.teacher_prediction.where(taught, encoding.prediction.detach()))
        else:
            with torch.no_grad():
                teacher_encoding = self.teacher(batch)
        distillation = distributed_mean(self.loss(encoding, teacher_encoding).sum(), len(batch))
        loss = self.alpha * losses["loss"] + (1 - self.alpha) * distillation
        return {**losses, "loss": loss, "distillation": distillation}
