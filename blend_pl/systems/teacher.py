"""The teacher: predicts neural activity from neural activity and behavior."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from blend_pl.data.batch import Batch
from blend_pl.data.signature import Signature
from blend_pl.errors import TeacherError
from blend_pl.models.base import Dims, Encoding
from blend_pl.systems.population import PopulationSystem


class Teacher(PopulationSystem):
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

    requires_privileged = True

    def build(self, signature: Signature) -> None:
        if signature.n_privileged == 0:
            raise TeacherError(
                f"a teacher needs behavior, and {signature} has none; name a series in data.spec.behavior, "
                "use phase val, or train a student"
            )
        if self.signature is None:
            self.missing = nn.Parameter(torch.zeros(signature.n_privileged))
        super().build(signature)

    def dims(self, signature: Signature) -> Dims:
        return replace(super().dims(signature), context=signature.n_privileged)

    def has_required_inputs(self, has_behavior: bool) -> bool:
        """Whether a session has behavior; test trials have none."""
        return has_behavior

    def encode(self, batch: Batch) -> Encoding:
        """Encodes neural activity and behavior.

        Raises:
            TeacherError: the batch has no behavior.
        """
        if batch.privileged is None or batch.privileged_valid is None:
            raise TeacherError("a teacher needs behavior, and this batch has none; predict with a student instead")
        context = torch.where(batch.privileged_valid, batch.privileged, self.missing)
        encoding: Encoding = self.backbone(*batch.inputs(), context)
        return encoding

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns expected counts per bin, (B, T', N).

        Raises:
            TeacherError: behavior is missing in the whole batch, as in a test file.
        """
        if batch.privileged_valid is not None and not batch.privileged_valid.any():
            raise TeacherError("a teacher needs behavior, and these trials have none; predict with a student instead")
        return super().predict_step(batch, batch_idx, dataloader_idx)
