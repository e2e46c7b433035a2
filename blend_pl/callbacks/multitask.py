"""The multi-task control: the student decodes behavior during training."""

import lightning as L
import torch

from blend_pl.data.base import datamodule_of
from blend_pl.distillation.multitask import MultitaskObjective
from blend_pl.errors import ConfigError
from blend_pl.systems.base import NeuralSystem
from blend_pl.utils.checks import NON_NEGATIVE, check_range


class Multitask(L.Callback):
    """Replaces a student's objective by reconstruction plus decoding of behavior.

    This control tests whether distillation is better than behavior as a second target. The input of the student is
    neural activity only. The decoding head is not part of the network and is not needed for predictions.

    Args:
        weight: weight of the decoding error, which is 1 for a prediction of the mean behavior.
    """

    def __init__(self, weight: float = 0.01) -> None:
        check_range(NON_NEGATIVE, weight=weight)
        self.weight = weight

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Installs the objective.

        Raises:
            ConfigError: the session has no behavior, or the backbone returns no latents.
        """
        if stage != "fit":
            return
        assert isinstance(pl_module, NeuralSystem)
        datamodule = datamodule_of(trainer)
        signature = datamodule.signature
        if signature.n_privileged == 0:
            raise ConfigError(f"multitask needs behavior to decode, and {signature} has none; name it in data.spec")
        pl_module.build_for(datamodule)
        batch = next(iter(datamodule.calibration_dataloader())).to("cpu")
        with torch.no_grad():
            latents = pl_module.eval().encode(batch).latents
        pl_module.train()
        if latents is None:
            raise ConfigError("multitask decodes from latents, and this backbone returns none; return them in Encoding")
        pl_module.objective = MultitaskObjective(
            pl_module.objective, latents.shape[-1], signature.n_privileged, self.weight
        )
