"""Fine-tuning of a pretrained model."""

from pathlib import Path

import lightning as L

from blend_pl.data.base import datamodule_of
from blend_pl.errors import ConfigError
from blend_pl.systems import MultiSessionSystem
from blend_pl.systems.checkpoint import load_system


class Pretrained(L.Callback):
    """Initializes the network with the weights of a pretrained model.

    Weights of single sessions are copied for the sessions that both networks have.

    Args:
        model: path of the checkpoint of the pretrained model. In a config also a run folder, an artifact of W&B, or an
            experiment file, which is trained first if it has no finished run.
    """

    def __init__(self, model: str) -> None:
        self.path = Path(model)
        self.weights_loaded = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copies the weights.

        Raises:
            ConfigError: the two networks have different inputs or sizes.
            TeacherError: the checkpoint is missing or damaged.
        """
        if stage != "fit" or self.weights_loaded:
            return
        pretrained = load_system(self.path)
        if (
            not isinstance(pretrained, MultiSessionSystem)
            or not isinstance(pl_module, MultiSessionSystem)
            or pretrained.modality != pl_module.modality
        ):
            raise ConfigError(
                f"{type(pl_module).__name__} cannot start from the {type(pretrained).__name__} of {self.path}; name a "
                "model with the same input"
            )
        pl_module.build_for(datamodule_of(trainer))
        pl_module.network.init_from(pretrained.network)
        self.weights_loaded = True
