"""What every backbone keeps: sizes in, an encoding out."""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Dims:
    """Sizes a backbone is built for.

    Attributes:
        channels: C, observed channels (held-in neurons).
        neurons: N, predicted neurons; the first C of them are the observed ones.
        observed_bins: T, bins the model sees.
        bins: T', predicted bins; the first T of them are the observed ones.
        context: D, width of the privileged context; 0 for a student.
    """

    channels: int
    neurons: int
    observed_bins: int
    bins: int
    context: int = 0


@dataclass(frozen=True)
class Encoding:
    """What a backbone makes of a batch.

    Attributes:
        prediction: (B, T', N), the likelihood's natural parameter (log expected count per bin for Poisson).
        features: one (B, T', width) tensor a layer, for feature distillation.
        latents: (B, T', H), the last representation before the read-out.
        penalty: (B,), what the backbone asks to be minimised beside the reconstruction, in its unit, nats per predicted
            entry: LFADS's divergence from its priors, STNDT's contrastive term. In training mode only, None otherwise.
        log_variance: (B, T', N), where the backbone predicts how certain it is.
        latents_valid: (B, T') bool, bins that have latents; None where all have. A bin has none if all its tokens were
            dropped.
    """

    prediction: Tensor
    features: list[Tensor] = field(default_factory=list)
    latents: Tensor | None = None
    penalty: Tensor | None = None
    log_variance: Tensor | None = None
    latents_valid: Tensor | None = None


class Backbone(Protocol):
    """Any `torch.nn.Module` that is built from `Dims` and keeps this call."""

    def __call__(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        """Encodes observed activity (B, T, C), with privileged context (B, T', D) if built for it."""
