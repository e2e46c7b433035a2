"""The contract of a backbone: built from `Dims`, returns an `Encoding`."""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Dims:
    """Sizes that a backbone is built for.

    Attributes:
        channels: C, number of observed channels (held-in neurons).
        neurons: N, number of predicted neurons; the first C are the observed ones.
        observed_bins: T, number of input bins.
        bins: T', number of predicted bins; the first T are the observed ones.
        context: D, number of channels of the privileged context; 0 for a student.
        bin_ms: bin width.

    Example:
        >>> Dims(channels=6, neurons=8, observed_bins=10, bins=12)
        Dims(channels=6, neurons=8, observed_bins=10, bins=12, context=0, bin_ms=20)
    """

    channels: int
    neurons: int
    observed_bins: int
    bins: int
    context: int = 0
    bin_ms: float = 20


@dataclass(frozen=True)
class Encoding:
    """Output of a backbone for a batch.

    Attributes:
        prediction: (B, T', N), natural parameter of the likelihood (log expected count per bin for Poisson).
        features: one (B, T', d_model) tensor per layer, for feature distillation.
        latents: (B, T', H), the last representation before the read-out.
        penalty: (B,), regularization term that is added to the reconstruction loss, in the same unit, nats per
            predicted entry: the divergence of LFADS from its priors, the contrastive term of STNDT. None in evaluation
            mode.
        log_variance: (B, T', N), predicted log-variance; None if the backbone predicts no variance.
        latents_valid: (B, T') bool, bins that have latents; None if all bins have latents. A bin has none if all its
            tokens were dropped.
    """

    prediction: Tensor
    features: list[Tensor] = field(default_factory=list)
    latents: Tensor | None = None
    penalty: Tensor | None = None
    log_variance: Tensor | None = None
    latents_valid: Tensor | None = None


class Backbone(Protocol):
    """Call signature of a backbone, a `torch.nn.Module` that is built from `Dims`."""

    def __call__(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        """Encodes observed activity (B, T, C), with privileged context (B, T', D) if `dims.context` > 0."""
