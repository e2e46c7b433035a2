"""Velocity decoded from frozen latents, of sessions that a model was trained on and of new ones."""

import copy
from collections.abc import Callable
from statistics import fmean
from typing import Any

import lightning as L
import torch
from torch import Tensor

from blend_pl.callbacks.distillation import Distillation
from blend_pl.callbacks.evaluation import Evaluation
from blend_pl.data.lfp.batches import SessionBatch
from blend_pl.data.lfp.signature import SessionSet
from blend_pl.errors import ConfigError
from blend_pl.metrics.alignment import linear_cka, retrieval
from blend_pl.metrics.readout import readout_r2
from blend_pl.systems import LFPStudent

PARTS = ("train", "val", "test")


class DecodingEvaluation(Evaluation):
    """After `test`, reads velocity off the latents of each session by a linear regression.

    The network is frozen and sees whole segments; the regression is fitted on the training segments of that session,
    its penalty chosen on validation segments, and scored on test segments. A session that is held out is registered
    first, with patch vectors of sessions of the same animal; nothing of the network is trained on it. Where there is
    a teacher, its latents are compared with the student's in test segments of the sessions that both know.

    Attributes:
        scores: "vel_r2", the mean over sessions that are not held out, "new_r2", over those that are, and "r2/NAME" of
            each; "cka" and "retrieval" where there is a teacher.
    """

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Embeds and scores; every rank does the same.

        Raises:
            ConfigError: the model or the data are not of sessions with LFP.
        """
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not (isinstance(pl_module, LFPStudent) and hasattr(datamodule, "every_segment")):
            raise ConfigError(
                f"DecodingEvaluation needs a model and data of sessions with LFP, not {type(pl_module).__name__} and "
                f"{type(datamodule).__name__}; take it out of trainer.callbacks"
            )
        teach = _teacher_of(trainer)
        r2, cka, found = {}, [], []
        for name in datamodule.evaluated:
            latents, behavior = embed(pl_module, datamodule, name)
            r2[name] = readout_r2(latents, behavior)
            if teach is not None and name in datamodule.trained:
                theirs = _gather(lambda batch: teach(batch).latents, datamodule.every_segment(name, "test"))
                cka.append(linear_cka(latents["test"], theirs))
                found.append(retrieval(latents["test"], theirs))
        self.scores = {f"r2/{name}": score for name, score in r2.items()}
        known = [score for name, score in r2.items() if name not in datamodule.held_out]
        new = [score for name, score in r2.items() if name in datamodule.held_out]
        means = {"vel_r2": known, "new_r2": new, "cka": cka, "retrieval": found}
        self.scores |= {key: fmean(values) for key, values in means.items() if values}
        for name, value in self.scores.items():
            pl_module.log(f"eval/{name}", value)


@torch.no_grad()
def embed(system: LFPStudent, datamodule: Any, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Latents and velocity of a session, whether or not the model knows it.

    Args:
        system: the model.
        datamodule: has the session, set up.
        name: the session.

    Returns:
        (rows, H) latents and (rows, D) z-scored velocity, NaN where missing, by part; a row is a bin.
    """
    signature = system.signature
    assert isinstance(signature, SessionSet)
    mode, network = system.training, system.network
    system.eval()
    try:
        if name not in {member.name for member in signature.sessions}:
            # Training may go on with the network as it was.
            system.backbone = copy.deepcopy(network)
            system.register_session(datamodule.sessions[name].member)
        loaders = {part: datamodule.every_segment(name, part) for part in PARTS}
        latents = {part: _gather(system.latents, batches) for part, batches in loaders.items()}
        behavior = {part: _gather(_velocity, batches) for part, batches in loaders.items()}
    finally:
        system.backbone = network
        system.train(mode)
    return latents, behavior


def _velocity(batch: SessionBatch) -> Tensor:
    return batch.behavior.masked_fill(~batch.behavior_valid, torch.nan)


def _gather(read: Callable[[SessionBatch], Any], batches: Any) -> Tensor:
    return torch.cat([read(batch).flatten(0, 1) for batch in batches])


def _teacher_of(trainer: L.Trainer) -> Callable[[SessionBatch], Any] | None:
    """What a student's teacher makes of a batch, if there is one that was loaded for training."""
    found = next((c for c in trainer.callbacks if isinstance(c, Distillation) and c.teachers), None)  # type: ignore[attr-defined]
    return found.teach if found else None
