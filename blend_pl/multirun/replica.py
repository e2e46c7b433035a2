"""Replica: one of several models that train as a stack."""

from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from blend_pl.callbacks import Distillation
from blend_pl.data.base import datamodule_of
from blend_pl.data.batch import Batch
from blend_pl.distillation.true_rates import TrueRates
from blend_pl.models import NDT
from blend_pl.multirun.checkpoint_selector import CheckpointSelector
from blend_pl.multirun.stacking import describe_architecture
from blend_pl.systems import NeuralSystem, PopulationSystem, Student, Teacher

STACKABLE_SYSTEMS = (Student, Teacher)

IGNORED_ATTRIBUTES = frozenset(vars(Student(NDT))) - {"_modules", "_parameters", "_buffers", "likelihood"}
"""Attributes of systems that do not affect what they compute: all but their modules and their likelihood."""


class DistillationStep(nn.Module):
    """A system and its teachers as one module, which computes the losses of a step.

    Args:
        system: the system, built.
        teachers: teachers of the system.
    """

    def __init__(self, system: PopulationSystem, teachers: list[NeuralSystem | TrueRates]) -> None:
        super().__init__()
        self.system, self.teachers = system, nn.ModuleList(teachers)

    def forward(self, batch: Batch, loss_mask: Tensor) -> dict[str, Tensor]:
        """Returns the terms of the objective for a masked batch and its loss mask (B, T', N)."""
        losses: dict[str, Tensor] = self.system.objective(self.system.encode(batch), loss_mask, batch)
        return losses


@dataclass
class Replica:
    """One of the models of a stack.

    Attributes:
        system: system to train.
        seed: seed of its run.
        callbacks: callbacks of the run that change the objective.
        selector: selects the checkpoint and stops training.
        checkpoint: file of the best weights.
        loggers: loggers of the run.
    """

    system: PopulationSystem
    seed: int
    callbacks: list[L.Callback]
    selector: CheckpointSelector
    checkpoint: Path
    loggers: list[Logger]

    def build(self, trainer: L.Trainer) -> None:
        """Builds the network and the objective with the same random numbers as `fit`.

        Args:
            trainer: trainer of the run; only its data module, set up for fitting, is used.
        """
        torch.manual_seed(self.seed)
        for callback in self.callbacks:
            callback.setup(trainer, self.system, "fit")
        self.system.build_for(datamodule_of(trainer))
        self.system.seed = self.seed
        self.system.data_digest = datamodule_of(trainer).digest

    @property
    def distillation_step(self) -> DistillationStep:
        """The system with its teachers."""
        teachers = [
            teacher
            for callback in self.callbacks
            if isinstance(callback, Distillation)
            for teacher in callback.teachers
        ]
        return DistillationStep(self.system, teachers)

    @property
    def architecture(self) -> str:
        """Description that is equal for replicas that can be stacked; see `describe_architecture`."""
        return describe_architecture(self.distillation_step, IGNORED_ATTRIBUTES)
