"""The multi-task control as a callback: it gives the student a head that decodes behaviour while it trains."""

import lightning as L
import torch

from blend_pl.data.base import datamodule_of
from blend_pl.distillation.multitask import MultitaskObjective
from blend_pl.errors import ConfigError
from blend_pl.systems.base import NeuralSystem


class Multitask(L.Callback):
    """Replaces a student's objective by reconstruction plus decoding of behaviour.

    Is distillation better than simply predicting behaviour? The student sees neural activity alone, as ever; the head
    is never part of its checkpoint's network, and is not needed to predict.

    Args:
        weight: of the decoding error, relative to a student that knows only the mean behaviour.
    """

    def __init__(self, weight: float = 0.01) -> None:
        self.weight = weight

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Installs the objective.

        Raises:
            ConfigError: the session has no behaviour, or the backbone returns no latents.
        """
        if stage != "fit":
            return
        assert isinstance(pl_module, NeuralSystem)
        datamodule = datamodule_of(trainer)
        signature = datamodule.signature
        if signature.n_privileged == 0:
            raise ConfigError(f"multitask needs behaviour to decode, and {signature} has none; name it in data.spec")
        pl_module.build(signature)
        batch = next(iter(datamodule.calibration_dataloader())).to("cpu")
        with torch.no_grad():
            latents = pl_module.eval().encode(batch).latents
        pl_module.train()
        if latents is None:
            raise ConfigError("multitask decodes from latents, and this backbone returns none; return them in Encoding")
        pl_module.objective = MultitaskObjective(
            pl_module.objective, latents.shape[-1], signature.n_privileged, self.weight
        )
