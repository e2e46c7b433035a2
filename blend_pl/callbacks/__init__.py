"""Callbacks: distillation and the multi-task control, evaluation, identity, predicted rates, costs."""

from blend_pl.callbacks.cost import Cost
from blend_pl.callbacks.distillation import Distillation
from blend_pl.callbacks.evaluation import Evaluation, NLBEvaluation
from blend_pl.callbacks.identity import IdentityEvaluation
from blend_pl.callbacks.multitask import Multitask
from blend_pl.callbacks.rates import RatesWriter

__all__ = ["Cost", "Distillation", "Evaluation", "IdentityEvaluation", "Multitask", "NLBEvaluation", "RatesWriter"]
