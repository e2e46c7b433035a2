"""The trainer of an experiment and its callbacks."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy

from blend_pl.callbacks import LastCheckpoint, TrainingCost
from blend_pl.runs.folder import CHECKPOINT_DIR
from blend_pl.systems import NeuralSystem
from blend_pl.systems.checkpoint import AtomicCheckpointIO


def make_trainer(config: Namespace, model: NeuralSystem, run_dir: Path) -> Trainer:
    """Returns the trainer that an experiment asks for.

    Args:
        config: settings of the experiment, with instances instead of class paths.
        model: the system to train.
        run_dir: the run's folder.
    """
    settings = dict(config.trainer)
    callbacks = settings["callbacks"] or []
    settings["callbacks"] = [
        *(callbacks if isinstance(callbacks, list) else [callbacks]),
        config.checkpoint,
        config.early_stopping,
    ]
    trainer: Any = Trainer(**settings)
    trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    trainer.callbacks += [
        callback for callback in (config.pretrained, config.distillation, config.multitask) if callback is not None
    ]
    trainer.callbacks += [TrainingCost(), LastCheckpoint(run_dir / CHECKPOINT_DIR)]
    if isinstance(trainer.strategy, DDPStrategy):
        # There is no other way to say so once Lightning has chosen the strategy.
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", model.has_unused_parameters)
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment):
        # Lightning's way keeps a checkpoint of the middle of an epoch; `LastCheckpoint` one of its end.
        environment.auto_requeue = False
    return trainer
