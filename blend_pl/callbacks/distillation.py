"""Distillation from frozen teachers."""

from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from blend_pl.data.base import NeuralDataModule, datamodule_of
from blend_pl.data.settings import digest_of_settings
from blend_pl.distillation.ensemble import TeacherEnsemble
from blend_pl.distillation.losses import DistillationLoss, HardLoss
from blend_pl.distillation.objective import MixedObjective, has_targets
from blend_pl.distillation.schedules import LinearSchedule
from blend_pl.distillation.synthetic import SyntheticTrials
from blend_pl.distillation.true_rates import NEW_TRIALS, TRUE_RATES, TrueRates
from blend_pl.errors import TeacherError
from blend_pl.models.base import Encoding
from blend_pl.runs.digest import other_data_message
from blend_pl.runs.folder import DEFAULT_OUTPUT
from blend_pl.runs.teachers import locate_checkpoint
from blend_pl.systems.base import NeuralSystem
from blend_pl.systems.checkpoint import load_system
from blend_pl.systems.generative import GenerativeTeacher
from blend_pl.systems.seeding import derive_seed
from blend_pl.utils.checks import FRACTION, check_range

CALIBRATION_BATCHES = 8
_SYNTHETIC_STREAM = 1
"""Distinguishes the seeds of synthetic trials from those of masks."""


class Distillation(L.Callback):
    """Replaces a student's objective by alpha * MTM + (1 - alpha) * D (BLEND).

    The teacher is in evaluation mode. It sees the same masked activity as the student and its own privileged input; a
    `GenerativeTeacher` sees all activity of the training trials instead, and its predictions are computed once. It is
    never part of the student's checkpoint. With several teachers, the student learns from the mean of their
    predictions.

    Args:
        teacher: a trained system, the path of a checkpoint (of `fit` or of a plain `Trainer`), a run folder, an
            artifact of W&B (wandb:entity/project/artifact:alias), an experiment file, or a list of these. An experiment
            is trained first if it has no finished run in the folder runs. In a config it is trained on the data of the
            student, and an experiment that is listed several times is trained with as many seeds. "simulation" stands
            for the true rates of a simulated session (`TrueRates`).
        loss: D; None for `HardLoss`.
        alpha: weight of the reconstruction, constant or changing over training.
        synthetic: replaces a share of the trials by trials that the teacher, a `GenerativeTeacher` or "simulation",
            generates.
    """

    objective: MixedObjective

    def __init__(
        self,
        teacher: str | Path | NeuralSystem | Sequence[str | Path | NeuralSystem],
        loss: DistillationLoss | None = None,
        alpha: float | LinearSchedule = 0.5,
        synthetic: SyntheticTrials | None = None,
    ) -> None:
        self.references = [teacher] if isinstance(teacher, str | Path | NeuralSystem) else list(teacher)
        self.loss = loss or HardLoss()
        if not isinstance(alpha, LinearSchedule):
            check_range(FRACTION, alpha=alpha)
        self.alpha = alpha if isinstance(alpha, LinearSchedule) else LinearSchedule(alpha, alpha)
        self.synthetic = synthetic
        self.targets: Tensor | None = None
        self.teachers: list[NeuralSystem | TrueRates] = []
        self.teacher_ensemble = TeacherEnsemble(self.teachers)

    def __repr__(self) -> str:
        teachers = ", ".join(map(_display_name, self.references))
        return f"Distillation({teachers}; {type(self.loss).__name__}, alpha {self.alpha})"

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Loads the teacher, checks it against the student, and installs the objective.

        Raises:
            TeacherError: a teacher is missing, damaged, or of another session, other neurons or other bins.
        """
        if stage != "fit" or self.teachers:
            return
        assert isinstance(pl_module, NeuralSystem)
        datamodule = datamodule_of(trainer)
        signature = datamodule.signature
        # Before teachers draw random numbers: the student starts from the weights of the baseline of its seed.
        pl_module.build_for(datamodule)
        for reference in self.references:
            if reference == TRUE_RATES:
                self.teachers.append(self._true_rates(datamodule))
                continue
            teacher = _frozen_teacher(reference, trainer)
            name = _display_name(reference)
            if teacher.signature is None:
                raise TeacherError(f"the teacher {name} is not trained; call trainer.fit with it first")
            if not teacher.signature.can_teach(signature):
                raise TeacherError(
                    f"the teacher {name} was trained on {teacher.signature}, the student's data are {signature}"
                    f"{', other units' if str(teacher.signature) == str(signature) else ''}; "
                    "train a teacher on the student's session"
                )
            message = other_data_message(f"the teacher {name}", teacher.data_digest, datamodule.digest)
            if message is not None:
                rank_zero_warn(message)
            self.teachers.append(teacher)
        if self.synthetic is not None and len(self._generators) < len(self.teachers):
            raise TeacherError(
                "synthetic trials are generated by a GenerativeTeacher or, in a simulated session, by the simulation; "
                "set distillation.teacher to one, or leave distillation.synthetic out"
            )
        examples = self._example_encodings(pl_module, datamodule)
        self.loss.check_compatible(*examples)
        self.loss.build(*examples)
        self.objective = MixedObjective(pl_module.objective, self.loss, self.teacher_ensemble, self.alpha.value_at(0.0))
        pl_module.objective = self.objective

    @property
    def _is_fixed(self) -> bool:
        """Whether the predictions of the teachers are the same in all epochs."""
        return all(teacher.teaches_without_masks for teacher in self.teachers)

    @property
    def _generators(self) -> list[GenerativeTeacher | TrueRates]:
        return [teacher for teacher in self.teachers if isinstance(teacher, GenerativeTeacher | TrueRates)]

    def _true_rates(self, datamodule: NeuralDataModule) -> TrueRates:
        rates = datamodule.true_rates("fit")
        if rates is None:
            raise TeacherError(
                f"distillation.teacher is {TRUE_RATES}, and the true rates of this session are not known: they are for "
                "data.source simulated; name another teacher"
            )
        new_rates = None if self.synthetic is None else datamodule.draw_new_rates(NEW_TRIALS)
        if self.synthetic is not None and new_rates is None:
            raise TeacherError(
                "distillation.synthetic draws trials of a simulated population, and these data are not simulated; "
                "leave it out"
            )
        return TrueRates(rates, new_rates)

    def _example_encodings(self, student: NeuralSystem, datamodule: NeuralDataModule) -> tuple[Encoding, Encoding]:
        batch = next(iter(datamodule.calibration_dataloader())).to("cpu")
        was_training = student.training
        with torch.no_grad():
            encodings = student.eval().encode(batch), self.teacher_ensemble(batch)
        if self._is_fixed:
            encodings = encodings[0], Encoding(encodings[1].prediction)
        student.train(was_training)
        return encodings

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Moves the teachers to the device and precision of the student and fits the scale of the loss.

        The predictions of teachers that do not depend on the masks are computed here, once.
        """
        dtype = next(pl_module.parameters()).dtype
        for teacher in self.teachers:
            teacher.to(pl_module.device, dtype)
        batches, encodings = [], []
        with torch.no_grad():
            loader = datamodule_of(trainer).calibration_dataloader()
            for batch in loader if self._is_fixed else islice(loader, CALIBRATION_BATCHES):
                batches.append(trainer.precision_plugin.convert_input(batch.to(pl_module.device)))
                encodings.append(self.teacher_ensemble(batches[-1]))
            predictions = torch.cat([encoding.prediction for encoding in encodings])
            if self._is_fixed:
                self.targets = predictions
                predictions = predictions[has_targets(predictions)]
                if not len(predictions):
                    raise TeacherError(
                        "no training trial has behavior, which the teacher needs; see data.spec.behavior"
                    )
            log_variances = [encoding.log_variance for encoding in encodings if encoding.log_variance is not None]
            self.loss.fit_scale(
                Encoding(
                    predictions,
                    [torch.cat(layer) for layer in zip(*(encoding.features for encoding in encodings), strict=True)],
                    log_variance=torch.cat(log_variances) if log_variances else None,
                )
            )
        if self.targets is not None and self.synthetic is not None:
            self.synthetic.prepare(batches, self.targets)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Sets alpha for the completed fraction of training, and the targets that do not depend on masks."""
        if self.targets is not None:
            batch.teacher_prediction = self.targets[batch.index]
        if self.synthetic is not None:
            assert isinstance(pl_module, NeuralSystem)
            seed = derive_seed(pl_module.seed, pl_module.current_epoch, batch_idx, _SYNTHETIC_STREAM)
            self.synthetic.replace_trials(batch, self._generators[derive_seed(seed) % len(self._generators)], seed)
        self.objective.alpha.fill_(self.alpha.value_at(trainer.global_step / trainer.estimated_stepping_batches))


def _display_name(reference: str | Path | NeuralSystem) -> str:
    return type(reference).__name__ if isinstance(reference, NeuralSystem) else str(reference)


def _frozen_teacher(reference: str | Path | NeuralSystem, trainer: L.Trainer) -> NeuralSystem:
    """Returns a teacher in evaluation mode without gradients; a system that is passed is copied, not changed."""
    if isinstance(reference, NeuralSystem):
        memo: dict[int, Any] = {}
        with suppress(RuntimeError):  # The system is not attached to a trainer.
            # The trainer that trained it holds its data, and is not copied.
            memo[id(reference.trainer)] = None
        return deepcopy(reference, memo).eval().requires_grad_(False)
    # One rank reads the file for all ranks: a shared disk is slow if all of them read it.
    path, content = Path(reference), None
    if trainer.is_global_zero:
        path = locate_checkpoint(str(reference), DEFAULT_OUTPUT, digest_of_settings, print)
        content = path.read_bytes() if path.is_file() else None
    return load_system(path, trainer.strategy.broadcast(content)).requires_grad_(False)
