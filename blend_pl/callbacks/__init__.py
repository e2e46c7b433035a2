"""Lightning callbacks: distillation, controls, fine-tuning, evaluation, checkpoints, cost and compilation."""

from blend_pl.callbacks.compiled import Compiled
from blend_pl.callbacks.decoding import DecodingEvaluation
from blend_pl.callbacks.distillation import Distillation
from blend_pl.callbacks.evaluation import Evaluation, NLBEvaluation
from blend_pl.callbacks.identity import IdentityEvaluation
from blend_pl.callbacks.last_checkpoint import LastCheckpoint
from blend_pl.callbacks.multitask import Multitask
from blend_pl.callbacks.pretrained import Pretrained
from blend_pl.callbacks.progress import TrainingProgress
from blend_pl.callbacks.rates import RatesWriter
from blend_pl.callbacks.training_cost import TrainingCost

__all__ = [
    "Compiled",
    "DecodingEvaluation",
    "Distillation",
    "Evaluation",
    "IdentityEvaluation",
    "LastCheckpoint",
    "Multitask",
    "NLBEvaluation",
    "Pretrained",
    "RatesWriter",
    "TrainingCost",
    "TrainingProgress",
]
