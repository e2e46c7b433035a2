"""Fine-tuning as a callback: training begins where another model's has ended."""

from pathlib import Path

import lightning as L

from blend_pl.data.base import datamodule_of
from blend_pl.errors import ConfigError
from blend_pl.systems import MultiSessionSystem
from blend_pl.systems.checkpoint import load_system


class Pretrained(L.Callback):
    """Gives the network, before training, the weights of another that was trained before.

    What the other knows of one session alone is taken over for that session.

    Args:
        model: checkpoint of the other model. In a config also a run folder, an artifact of W&B, or an experiment file,
            whose model is trained first when it is missing.
    """

    def __init__(self, model: str) -> None:
        self.path = Path(model)
        self.weights_loaded = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copies the weights.

        Raises:
            ConfigError: the two networks do not fit together.
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
                f"{type(pl_module).__name__} cannot begin as the {type(pretrained).__name__} of {self.path}; name a model "
                "of the same kind"
            )
        pl_module.build(datamodule_of(trainer).signature)
        pl_module.network.init_from(pretrained.network)
        self.weights_loaded = True
