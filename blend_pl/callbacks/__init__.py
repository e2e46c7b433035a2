"""Callbacks: distillation, evaluation, predicted rates."""

from blend_pl.callbacks.distillation import Distillation
from blend_pl.callbacks.evaluation import NLBEvaluation
from blend_pl.callbacks.rates import RatesWriter

__all__ = ["Distillation", "NLBEvaluation", "RatesWriter"]
