"""A session as tensors: what the reader makes, the cache keeps and the data module serves."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class SessionTensors:
    """All trials of one split, binned; T observed bins, F forward bins, N units (held-in first, then held-out).

    Attributes:
        spikes: (trials, T + F, N) unsigned counts; 0 where unobserved.
        observed: (trials, T + F, 2) bool; whether held-in [..., 0] and held-out [..., 1] units were recorded in the bin.
        behavior: (trials, T + F, D) float32 in the file's unit, lagged, NaN where missing; D = 0 without behaviour.
        trial_id: (trials,) int64, row of the trials table counted over all files.
        condition: (trials,) int64, row of `psth`; -1 for none.
        decode_mask: (trials, M) bool, the decoders a trial belongs to.
        psth: (conditions, T, N) float64 expected counts per bin, NaN where undefined; no rows without conditions.
        unit_id: (N,) int64 ids of the units in the file.
        n_heldin: number of held-in units.
        n_forward: F.
        bin_ms: bin width.
    """

    spikes: Tensor
    observed: Tensor
    behavior: Tensor
    trial_id: Tensor
    condition: Tensor
    decode_mask: Tensor
    psth: Tensor
    unit_id: Tensor
    n_heldin: int
    n_forward: int
    bin_ms: int

    def __len__(self) -> int:
        return len(self.spikes)

    @property
    def n_observed(self) -> int:
        """T, the number of bins a model may look at."""
        return self.spikes.shape[1] - self.n_forward

    @property
    def n_units(self) -> int:
        """N, held-in and held-out units together."""
        return self.spikes.shape[2]

    def select(self, trials: Tensor) -> "SessionTensors":
        """The same session with only the given trials (indices or a boolean mask)."""
        per_trial = ("spikes", "observed", "behavior", "trial_id", "condition", "decode_mask")
        return replace(self, **{name: getattr(self, name)[trials] for name in per_trial})

    def to_dict(self) -> dict[str, Tensor | int]:
        """Plain tensors and integers, as the cache stores them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def valid(self) -> Tensor:
        """(trials, T + F, N) bool: entries that were recorded and may be scored."""
        n_heldout = self.n_units - self.n_heldin
        return torch.repeat_interleave(
            self.observed, torch.tensor([self.n_heldin, n_heldout], device=self.observed.device), dim=-1
        )
