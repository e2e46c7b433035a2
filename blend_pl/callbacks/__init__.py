"""Callbacks: distillation and the multi-task control, fine-tuning, evaluation, identity, predicted rates, costs."""

from blend_pl.callbacks.cost import Cost
from blend_pl.callbacks.decoding import DecodingEvaluation
from blend_pl.callbacks.distillation import Distillation
from blend_pl.callbacks.evaluation import Evaluation, NLBEvaluation
from blend_pl.callbacks.identity import IdentityEvaluation
from blend_pl.callbacks.last import LastCheckpoint
from blend_pl.callbacks.multitask import Multitask
from blend_pl.callbacks.pretrained import Pretrained
from blend_pl.callbacks.rates import RatesWriter

__all__ = [
    "Cost",
    "DecodingEvaluation",
    "Distillation",
    "Evaluation",
    "IdentityEvaluation",
    "LastCheckpoint",
    "Multitask",
    "NLBEvaluation",
    "Pretrained",
    "RatesWriter",
]
