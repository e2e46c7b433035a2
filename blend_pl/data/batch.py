"""The one thing that data modules hand to systems: a batch of trials."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


# Lightning converts batches in place where --trainer.precision says so.
@dataclass
class Batch:
    """B trials; T observed of T' bins, C observed of N neurons, D privileged channels.

    The observed block is the top left of the target: `observed[:, t, c]` is what a model may see of `target[:, t, c]`;
    held-out neurons and forward bins are in the target alone.

    Attributes:
        observed: (B, T, C) float, what every model may see.
        target: (B, T', N) float, what is reconstructed and predicted.
        target_valid: (B, T', N) bool, entries that were recorded.
        index: (B,) int64, rows of the trials in their split.
        global_rows: (B,) int64, positions of the trials in the global batch, before it was divided over ranks.
        global_size: number of trials in the global batch.
        privileged: (B, T', D) float, z-scored, 0 where missing; None once it is taken away.
        privileged_valid: (B, T', D) bool, where `privileged` was measured.
    """

    observed: Tensor
    target: Tensor
    target_valid: Tensor
    index: Tensor
    global_rows: Tensor
    global_size: int
    privileged: Tensor | None = None
    privileged_valid: Tensor | None = None

    def __len__(self) -> int:
        return len(self.observed)

    def without_privileged(self) -> "Batch":
        """The batch without privileged information: all that a student's code path receives."""
        return replace(self, privileged=None, privileged_valid=None)

    def inputs(self) -> tuple[Tensor, ...]:
        """What a backbone is called with, privileged context apart."""
        return (self.observed,)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The batch on another device."""
        tensors = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return replace(self, **{name: tensor.to(device, non_blocking=non_blocking) for name, tensor in tensors.items()})
