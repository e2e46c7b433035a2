"""One of several models that train together."""

from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from blend_pl.callbacks import Distillation
from blend_pl.data.batch import Batch
from blend_pl.models import NDT
from blend_pl.multirun.checkpoint_selector import Selection
from blend_pl.multirun.stacking import architecture
from blend_pl.systems import Student, Teacher

KINDS = (Student, Teacher)

BESIDES = frozenset(vars(Student(NDT))) - {"_modules", "_parameters", "_buffers", "likelihood"}
"""What every system has beside its modules and its likelihood is no part of what it computes."""


class Lesson(nn.Module):
    """A model and whoever teaches it, as one module: all that a step computes with.

    Args:
        system: the model, built.
        teachers: its teachers.
    """

    def __init__(self, system: Student, teachers: list[Student]) -> None:
        super().__init__()
        self.system, self.teachers = system, nn.ModuleList(teachers)

    def forward(self, batch: Batch, labels: Tensor) -> dict[str, Tensor]:
        """The objective's terms for a masked batch."""
        return self.system.objective(self.system.encode(batch), labels, batch)


@dataclass
class Member:
    """A model, its chance, what chooses its checkpoint, and where it writes.

    Attributes:
        system: the model.
        seed: of its run.
        callbacks: those of a run that change what is minimised.
        selection: follows its score.
        checkpoint: where its best weights are kept.
        loggers: who is told of it.
    """

    system: Student
    seed: int
    callbacks: list[L.Callback]
    selection: Selection
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
        self.system.build(trainer.datamodule.signature)  # type: ignore[attr-defined]
        self.system.seed = self.seed

    @property
    def lesson(self) -> Lesson:
        """The model with its teachers."""
        teachers = [t for c in self.callbacks if isinstance(c, Distillation) for t in c.teachers]
        return Lesson(self.system, teachers)

    @property
    def architecture(self) -> str:
        """Equal for members that can train together."""
        return architecture(self.lesson, BESIDES)
