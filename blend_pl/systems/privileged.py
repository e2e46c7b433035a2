"""Base class of systems of one population with privileged input."""

from dataclasses import replace

from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.data.signature import Signature
from blend_pl.errors import TeacherError
from blend_pl.models.base import Dims
from blend_pl.systems.population import PopulationSystem


class PrivilegedSystem(PopulationSystem):
    """Base class of teachers: systems whose input contains behavior."""

    requires_privileged = True

    def build(self, signature: Signature) -> None:
        if signature.n_privileged == 0:
            raise TeacherError(
                f"a teacher needs behavior, and {signature} has none; name a series in data.spec.behavior, "
                "use phase val, or train a student"
            )
        super().build(signature)

    def dims(self, signature: Signature) -> Dims:
        return replace(super().dims(signature), context=signature.n_privileged)

    def has_required_inputs(self, has_behavior: bool) -> bool:
        """Whether a session has behavior; test trials have none."""
        return has_behavior

    def behavior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the behavior of a batch and the mask of its measured entries.

        Raises:
            TeacherError: the batch has no behavior.
        """
        if batch.privileged is None or batch.privileged_valid is None:
            raise TeacherError("a teacher needs behavior, and this batch has none; predict with a student instead")
        return batch.privileged, batch.privileged_valid

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns expected counts per bin, (B, T', N).

        Raises:
            TeacherError: behavior is missing in the whole batch, as in a test file.
        """
        if batch.privileged_valid is not None and not batch.privileged_valid.any():
            raise TeacherError("a teacher needs behavior, and these trials have none; predict with a student instead")
        return super().predict_step(batch, batch_idx, dataloader_idx)
