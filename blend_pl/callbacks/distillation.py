"""Distillation as a callback: it loads frozen teachers and gives the student the mixed objective."""

from pathlib import Path
from typing import Any

import lightning as L
import torch

from blend_pl.distillation.ensemble import Ensemble
from blend_pl.distillation.losses import DistillationLoss, Hard
from blend_pl.distillation.objective import MixedObjective
from blend_pl.distillation.schedules import Ramp
from blend_pl.errors import TeacherError
from blend_pl.models.base import Encoding
from blend_pl.systems.checkpoint import load_system
from blend_pl.systems.student import Student

CALIBRATION_BATCHES = 8


class Distillation(L.Callback):
    """Replaces a student's objective by alpha * MTM + (1 - alpha) * D (BLEND).

    The teacher is in evaluation mode, sees the same masked activity as the student and, if it is a `Teacher`, the
    behaviour; it is never part of the student's checkpoint.

    Several teachers teach the mean of their predictions.

    Args:
        teacher: checkpoint of the teacher, or a list of them. In a config also a run folder, an artifact of W&B
            (wandb:entity/project/artifact:alias), or an experiment file, whose teacher is trained first when it is
            missing; named several times, with as many seeds.
        loss: D.
        alpha: weight of the reconstruction, constant or changing over training.
    """

    objective: MixedObjective

    def __init__(
        self, teacher: str | list[str], loss: DistillationLoss | None = None, alpha: float | Ramp = 0.5
    ) -> None:
        self.paths = [Path(path) for path in ([teacher] if isinstance(teacher, str) else teacher)]
        self.loss = loss or Hard()
        self.alpha = alpha if isinstance(alpha, Ramp) else Ramp(alpha, alpha)
        self.teachers: list[Student] = []
        self.teach = Ensemble(self.teachers)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Loads the teacher, checks it against the student, and installs the objective.

        Raises:
            TeacherError: a teacher is missing, damaged, or of another session, other neurons or other bins.
        """
        if stage != "fit" or self.teachers:
            return
        assert isinstance(pl_module, Student)
        signature = trainer.datamodule.signature  # type: ignore[attr-defined]
        # Before the teacher draws numbers: a student starts from the weights of the baseline of its seed.
        pl_module.build(signature)
        for path in self.paths:
            # One rank reads it for all: a disk that many share is slow to serve many.
            mine = path.read_bytes() if trainer.is_global_zero and path.is_file() else None
            teacher = load_system(path, trainer.strategy.broadcast(mine))
            assert teacher.signature is not None
            if not teacher.signature.teaches(signature):
                raise TeacherError(
                    f"the teacher {path} knows {teacher.signature}, the student's data are {signature}"
                    f"{', other units' if str(teacher.signature) == str(signature) else ''}; "
                    "train a teacher on the student's session"
                )
            self.teachers.append(teacher.requires_grad_(False))
        self.loss.match(*self._examples(pl_module, trainer.datamodule))  # type: ignore[attr-defined]
        self.objective = MixedObjective(pl_module.objective, self.loss, self.teach, self.alpha.at(0.0))
        pl_module.objective = self.objective

    def _examples(self, student: Student, datamodule: Any) -> tuple[Encoding, Encoding]:
        batch = next(iter(datamodule.calibration_dataloader())).to("cpu")
        mode = student.training
        with torch.no_grad():
            encodings = student.eval().encode(batch), self.teach(batch)
        student.train(mode)
        return encodings

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Moves the teachers to the student's device and precision, and takes the unit of the loss from them."""
        for teacher in self.teachers:
            teacher.to(pl_module.device, pl_module.dtype)
        encodings = []
        with torch.no_grad():
            for batch, _ in zip(trainer.datamodule.calibration_dataloader(), range(CALIBRATION_BATCHES), strict=False):  # type: ignore[attr-defined]
                encodings.append(self.teach(trainer.precision_plugin.convert_input(batch.to(pl_module.device))))
            spreads = [e.log_variance for e in encodings if e.log_variance is not None]
            self.loss.calibrate(
                Encoding(
                    torch.cat([e.prediction for e in encodings]),
                    [torch.cat(layer) for layer in zip(*(e.features for e in encodings), strict=True)],
                    log_variance=torch.cat(spreads) if spreads else None,
                )
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Sets alpha for the share of the training that is done."""
        self.objective.alpha.fill_(self.alpha.at(trainer.global_step / trainer.estimated_stepping_batches))
