"""The teacher: predicts neural activity from neural activity and behavior."""

import torch
from torch import nn

from blend_pl.data.batch import Batch
from blend_pl.data.signature import Signature
from blend_pl.models.base import Encoding
from blend_pl.systems.privileged import PrivilegedSystem


class Teacher(PrivilegedSystem):
    """Sees masked neural activity and behavior (BLEND).

    Behavior is given for all T' bins, including forward bins, in training and in evaluation. A learned vector replaces
    it where it is missing.

    Example:
        >>> from blend_pl.models import NDT
        >>> counts, velocity = torch.poisson(torch.ones(4, 12, 3)), torch.randn(4, 12, 2)
        >>> batch = Batch(
        ...     observed=counts[:, :10, :2],
        ...     target=counts,
        ...     target_valid=counts >= 0,
        ...     index=torch.arange(4),
        ...     global_rows=torch.arange(4),
        ...     global_size=4,
        ...     privileged=velocity,
        ...     privileged_valid=velocity.isfinite(),
        ... )
        >>> session = Signature("reach", 20, n_observed=10, n_forward=2, n_heldin=2, n_privileged=2, unit_id=(7, 8, 9))
        >>> teacher = Teacher(NDT)
        >>> teacher.build(session)
        >>> teacher.predict_step(batch, 0).shape
        torch.Size([4, 12, 3])
    """

    def build(self, signature: Signature) -> None:
        if self.signature is None:
            self.missing = nn.Parameter(torch.zeros(signature.n_privileged))
        super().build(signature)

    def encode(self, batch: Batch) -> Encoding:
        """Encodes neural activity and behavior.

        Raises:
            TeacherError: the batch has no behavior.
        """
        behavior, valid = self.behavior(batch)
        encoding: Encoding = self.backbone(*batch.inputs(), torch.where(valid, behavior, self.missing))
        return encoding
