"""Distillation losses and training objectives, computed from encodings."""

from blend_pl.distillation.losses import (
    CorrelationLoss,
    DistillationLoss,
    FeatureLoss,
    GaussianSoftLoss,
    HardLoss,
    RepresentationLoss,
    SoftLoss,
)
from blend_pl.distillation.objective import MaskedReconstruction, MixedObjective
from blend_pl.distillation.schedules import LinearSchedule
from blend_pl.distillation.synthetic import SyntheticTrials

__all__ = [
    "CorrelationLoss",
    "DistillationLoss",
    "FeatureLoss",
    "GaussianSoftLoss",
    "HardLoss",
    "LinearSchedule",
    "MaskedReconstruction",
    "MixedObjective",
    "RepresentationLoss",
    "SoftLoss",
    "SyntheticTrials",
]
