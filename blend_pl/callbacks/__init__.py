"""Callbacks: distillation, evaluation, figures."""

from blend_pl.callbacks.distillation import Distillation
from blend_pl.callbacks.evaluation import NLBEvaluation

__all__ = ["Distillation", "NLBEvaluation"]
