"""One of several models that train together."""

from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from blend_pl.callbacks import Distillation
from blend_pl.data.base import datamodule_of
from blend_pl.data.batch import Batch
from blend_pl.models import NDT
from blend_pl.multirun.checkpoint_selector import CheckpointSelector
from blend_pl.multirun.stacking import describe_architecture
from blend_pl.systems import NeuralSystem, PopulationSystem, Student, Teacher

STACKABLE_SYSTEMS = (Student, Teacher)

IGNORED_ATTRIBUTES = frozenset(vars(Student(NDT))) - {"_modules", "_parameters", "_buffers", "likelihood"}
"""What every system has beside its modules and its likelihood is no part of what it computes."""


class DistillationStep(nn.Module):
    """A model and whoever teaches it, as one module: all that a step computes with.

    Args:
        system: the model, built.
        teachers: its teachers.
    """

    def __init__(self, system: PopulationSystem, teachers: list[NeuralSystem]) -> None:
        super().__init__()
        self.system, self.teachers = system, nn.ModuleList(teachers)

    def forward(self, batch: Batch, labels: Tensor) -> dict[str, Tensor]:
        """The objective's terms for a masked batch."""
        return self.system.objective(self.system.encode(batch), labels, batch)


@dataclass
class Replica:
    """A model, its chance, what chooses its checkpoint, and where it writes.

    Attributes:
        system: the model.
        seed: of its run.
        callbacks: those of a run that change what is minimised.
        selector: follows its score.
        checkpoint: where its best weights are kept.
        loggers: who is told of it.
    """

    system: PopulationSystem
    seed: int
    callbacks: list[L.Callback]
    selector: CheckpointSelector
    checkpoint: Path
    loggers: list[Logger]

    def build(self, trainer: L.Trainer) -> None:
        """Makes the network and its objective, by the same chance as `fit` does.

        Args:
            trainer: has the data module, set up; no other part of it is needed.
        """
        torch.manual_seed(self.seed)
        for callback in self.callbacks:
            callback.setup(trainer, self.system, "fit")
        self.system.build(datamodule_of(trainer).signature)
        self.system.seed = self.seed

    @property
    def distillation_step(self) -> DistillationStep:
        """The model with its teachers."""
        teachers = [
            teacher
            for callback in self.callbacks
            if isinstance(callback, Distillation)
            for teacher in callback.teachers
        ]
        return DistillationStep(self.system, teachers)

    @property
    def architecture(self) -> str:
        """Equal for members that can train together."""
        return describe_architecture(self.distillation_step, IGNORED_ATTRIBUTES)
