"""Evaluation by decoding velocity from frozen latents, of training sessions and new sessions."""

import copy
from collections.abc import Callable
from statistics import fmean
from typing import Any

import lightning as L
import torch
from torch import Tensor

from blend_pl.callbacks.distillation import Distillation
from blend_pl.callbacks.evaluation import Evaluation
from blend_pl.data.base import datamodule_of
from blend_pl.data.lfp.batches import SessionBatch
from blend_pl.data.lfp.module import MultiSessionDataModule
from blend_pl.data.signature import MultiSessionSignature
from blend_pl.errors import ConfigError
from blend_pl.metrics.alignment import linear_cka, retrieval_accuracy
from blend_pl.metrics.readout import readout_r2
from blend_pl.systems import MultiSessionSystem

SUBSETS = ("train", "val", "test")


class DecodingEvaluation(Evaluation):
    """Decodes velocity from the latents of each session by linear regression, after `test`.

    The network is frozen and encodes whole segments. The regression is fitted on the training segments of the session,
    its penalty is selected on the validation segments, and it is scored on the test segments. A held-out session is
    registered first, with patch vectors of sessions of the same subject; the network is not trained on it. If the
    student has a teacher, their latents are compared on the test segments of the training sessions.

    Attributes:
        scores: "vel_r2", the mean over sessions that are not held out; "new_r2", the mean over held-out sessions;
            "r2/NAME" of each session; "cka" and "retrieval" with a teacher.
    """

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Computes the scores; every rank computes all of them.

        Raises:
            ConfigError: the model or the data have no sessions with LFP.
        """
        datamodule = datamodule_of(trainer)
        if not (isinstance(pl_module, MultiSessionSystem) and isinstance(datamodule, MultiSessionDataModule)):
            raise ConfigError(
                f"DecodingEvaluation needs a model and data of sessions with LFP, not {type(pl_module).__name__} and "
                f"{type(datamodule).__name__}; remove it from trainer.callbacks"
            )
        teacher = _find_teacher(trainer)
        r2, cka, retrieval_scores = {}, [], []
        for name in datamodule.evaluation_sessions:
            latents, behavior = embed_session(pl_module, datamodule, name)
            r2[name] = readout_r2(latents, behavior)
            if teacher is not None and name in datamodule.training_sessions:
                teacher_latents = _concat_batches(
                    lambda batch: teacher(batch).latents, datamodule.segment_dataloader(name, "test")
                )
                cka.append(linear_cka(latents["test"], teacher_latents))
                retrieval_scores.append(retrieval_accuracy(latents["test"], teacher_latents))
        self.scores = {f"r2/{name}": score for name, score in r2.items()}
        seen_r2 = [score for name, score in r2.items() if name not in datamodule.held_out]
        new_r2 = [score for name, score in r2.items() if name in datamodule.held_out]
        means = {"vel_r2": seen_r2, "new_r2": new_r2, "cka": cka, "retrieval": retrieval_scores}
        self.scores |= {key: fmean(values) for key, values in means.items() if values}
        for name, value in self.scores.items():
            pl_module.log(f"eval/{name}", value)


@torch.no_grad()
def embed_session(
    system: MultiSessionSystem, datamodule: MultiSessionDataModule, name: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns latents and velocity of a session; registers it for the time of the call if it is new to the model.

    Args:
        system: the model.
        datamodule: data module with the session, set up.
        name: name of the session.

    Returns:
        Latents (rows, H) and z-scored velocity (rows, D), NaN where it is missing, by subset; a row is a bin.
    """
    signature = system.signature
    assert isinstance(signature, MultiSessionSignature)
    was_training, network = system.training, system.network
    system.eval()
    try:
        if name not in {session.name for session in signature.sessions}:
            # A copy, because training may continue with the original network.
            system.backbone = copy.deepcopy(network)
            system.register_session(datamodule.sessions[name].info)
        loaders = {subset: datamodule.segment_dataloader(name, subset) for subset in SUBSETS}
        latents = {subset: _concat_batches(system.latents, loader) for subset, loader in loaders.items()}
        behavior = {subset: _concat_batches(_masked_velocity, loader) for subset, loader in loaders.items()}
    finally:
        system.backbone = network
        system.train(was_training)
    return latents, behavior


def _masked_velocity(batch: SessionBatch) -> Tensor:
    return batch.behavior.masked_fill(~batch.behavior_valid, torch.nan)


def _concat_batches(extract: Callable[[SessionBatch], Any], loader: Any) -> Tensor:
    return torch.cat([extract(batch).flatten(0, 1) for batch in loader])


def _find_teacher(trainer: L.Trainer) -> Callable[[SessionBatch], Any] | None:
    """Returns the teacher of the student, if it was loaded for training."""
    distillation = next((c for c in trainer.callbacks if isinstance(c, Distillation) and c.teachers), None)  # type: ignore[attr-defined]
    return distillation.teacher_ensemble if distillation else None
