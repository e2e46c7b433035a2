"""Distillation losses and the mixed objective: encodings in, scalars out."""

from blend_pl.distillation.losses import (
    Correlation,
    DistillationLoss,
    Feature,
    GaussianSoft,
    Hard,
    Representation,
    Soft,
)
from blend_pl.distillation.objective import MaskedReconstruction, MixedObjective
from blend_pl.distillation.schedules import Ramp

__all__ = [
    "Correlation",
    "DistillationLoss",
    "Feature",
    "GaussianSoft",
    "Hard",
    "MaskedReconstruction",
    "MixedObjective",
    "Ramp",
    "Representation",
    "Soft",
]
