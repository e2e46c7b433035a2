"""Callbacks: distillation and the multi-task control, evaluation, predicted rates, costs."""

from blend_pl.callbacks.cost import Cost
from blend_pl.callbacks.distillation import Distillation
from blend_pl.callbacks.evaluation import NLBEvaluation
from blend_pl.callbacks.multitask import Multitask
from blend_pl.callbacks.rates import RatesWriter

__all__ = ["Cost", "Distillation", "Multitask", "NLBEvaluation", "RatesWriter"]
