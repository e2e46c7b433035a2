"""The batch that data modules pass to systems."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from blend_pl.utils.tensors import describe_fields


# Not frozen: Lightning converts the precision of batches in place.
@dataclass
class Batch:
    """B trials; T observed of T' bins, C observed of N neurons, D privileged channels.

    `observed[:, t, c]` corresponds to `target[:, t, c]`; held-out neurons and forward bins are in the target alone.

    Attributes:
        observed: (B, T, C) float, input of every model.
        target: (B, T', N) float, activity to reconstruct and predict.
        target_valid: (B, T', N) bool, entries that were recorded.
        index: (B,) int64, rows of the trials in their split.
        global_rows: (B,) int64, positions of the trials in the global batch, which is divided over ranks.
        global_size: number of trials in the global batch.
        privileged: (B, T', D) float, z-scored, 0 where missing; None in a student's batch.
        privileged_valid: (B, T', D) bool, entries of `privileged` that were measured.
        teacher_prediction: (B, T', N) prediction of a teacher that does not depend on masks; None if the teacher
            predicts the masked batch.

    Example:
        >>> counts = torch.poisson(torch.ones(4, 10, 8))  # 4 trials, 10 bins, 8 neurons, of which 6 are held in
        >>> batch = Batch(
        ...     observed=counts[..., :6],
        ...     target=counts,
        ...     target_valid=torch.ones_like(counts, dtype=torch.bool),
        ...     index=torch.arange(4),
        ...     global_rows=torch.arange(4),
        ...     global_size=4,
        ...     privileged=torch.zeros(4, 10, 2),
        ...     privileged_valid=torch.ones(4, 10, 2, dtype=torch.bool),
        ... )
        >>> len(batch), batch.without_privileged().privileged
        (4, None)
    """

    observed: Tensor
    target: Tensor
    target_valid: Tensor
    index: Tensor
    global_rows: Tensor
    global_size: int
    privileged: Tensor | None = None
    privileged_valid: Tensor | None = None
    teacher_prediction: Tensor | None = None

    def __repr__(self) -> str:
        return describe_fields(self)

    def __len__(self) -> int:
        return len(self.observed)

    def without_privileged(self) -> "Batch":
        """Returns the batch without privileged input, as a student receives it."""
        return replace(self, privileged=None, privileged_valid=None)

    def inputs(self) -> tuple[Tensor, ...]:
        """Returns the positional arguments of a backbone, without privileged context."""
        return (self.observed,)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Returns the batch on another device."""
        tensors = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return replace(self, **{name: tensor.to(device, non_blocking=non_blocking) for name, tensor in tensors.items()})
