"""A `fit` that may be trained with others, and whether it can be."""

import inspect
import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ModelSummary, ProgressBar
from lightning.pytorch.loggers import CSVLogger

from blend_pl.callbacks import Compiled, Distillation, Multitask, NLBEvaluation, TrainingCost
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.experiment import Experiment
from blend_pl.multirun.checkpoint_selector import CheckpointSelector
from blend_pl.multirun.replica import STACKABLE_SYSTEMS, Replica
from blend_pl.runs.folder import BEST_CHECKPOINT, CHECKPOINT_DIR, DEFAULT_MONITOR
from blend_pl.systems import PopulationSystem

PER_RUN_SETTINGS = ("logger", "callbacks", "default_root_dir")
"""Settings of the trainer that every run has for itself."""
UNSUPPORTED_TRAINER_SETTINGS = (
    *("fast_dev_run", "overfit_batches", "reload_dataloaders_every_n_epochs", "barebones"),
    *("min_epochs", "min_steps", "max_time", "val_check_interval"),
)
"""Settings of the trainer that, unless they are left as they are, say when one model stops or is scored."""
SUPPORTED_CALLBACK_SETTINGS = {
    "checkpoint": (ModelCheckpoint, ("monitor", "mode", "dirpath", "filename", "verbose", "enable_version_counter")),
    "early_stopping": (EarlyStopping, ("monitor", "mode", "patience", "min_delta", "verbose", "log_rank_zero_only")),
}
"""What `CheckpointSelector` knows of the settings of Lightning's callbacks, or need not know."""
AVAILABLE_METRICS = {"val/loss", DEFAULT_MONITOR}
"""What a `StackedModule` can tell."""
SUPPORTED_CALLBACKS = (
    *(ProgressBar, ModelSummary, NLBEvaluation, EarlyStopping, ModelCheckpoint),
    *(TrainingCost, Distillation, Multitask, Compiled),
)
"""Callbacks that a `StackedModule` does without or takes the part of."""


@dataclass
class Candidate:
    """A run that may be trained with others.

    Attributes:
        arguments: of `fit`.
        experiment: made from them.
        locks: holds the run's folder.
    """

    arguments: list[str]
    experiment: Experiment
    locks: ExitStack

    @property
    def trainer_settings(self) -> dict[str, Any]:
        """Settings of the trainer that runs must share to train together."""
        return {
            name: value for name, value in self.experiment.settings["trainer"].items() if name not in PER_RUN_SETTINGS
        }

    @property
    def group_key(self) -> str:
        """Equal for runs on the same data by the same budget."""
        return json.dumps([self.experiment.settings["data"], self.trainer_settings], sort_keys=True)

    @property
    def is_stackable(self) -> bool:
        """Whether this kind of run can be trained with others at all."""
        experiment = self.experiment
        return (
            type(experiment.model) in STACKABLE_SYSTEMS
            and isinstance(experiment.datamodule, NLBDataModule)
            and experiment.trainer.world_size == 1
            and all(isinstance(logger, CSVLogger) for logger in experiment.trainer.loggers)
            and not any(isinstance(value, dict | list) for value in self.trainer_settings.values())
            and self._has_supported_settings
            # A checkpoint that it goes on from: it was begun alone.
            and experiment.checkpoint is None
        )

    @property
    def _has_supported_settings(self) -> bool:
        """Whether all that its settings ask for is heeded by those who train several."""
        trainer, settings = self.experiment.trainer, self.experiment.settings
        values_and_defaults = [
            (settings["trainer"][name], default_arguments(L.Trainer)[name]) for name in UNSUPPORTED_TRAINER_SETTINGS
        ]
        for section, (callback_class, supported) in SUPPORTED_CALLBACK_SETTINGS.items():
            values_and_defaults += [
                (settings[section][name], value)
                for name, value in default_arguments(callback_class).items()
                if name not in supported
            ]
        return (
            all(value == default for value, default in values_and_defaults)
            and all(isinstance(callback, SUPPORTED_CALLBACKS) for callback in trainer.callbacks)
            and len(trainer.early_stopping_callbacks) == 1
            and {callback.monitor for callback in trainer.early_stopping_callbacks} <= AVAILABLE_METRICS
            and trainer.checkpoint_callback.monitor in AVAILABLE_METRICS
            # The one that chooses, and the last.
            and len(trainer.checkpoint_callbacks) == 2
            # One whose gradients overflow would hold up all.
            and getattr(trainer.precision_plugin, "scaler", None) is None
        )

    def make_replica(self) -> Replica:
        """What trains."""
        callbacks = self.experiment.trainer.callbacks
        early_stopping = next(callback for callback in callbacks if isinstance(callback, EarlyStopping))
        model_checkpoint = self.experiment.trainer.checkpoint_callback
        assert isinstance(self.experiment.model, PopulationSystem)
        return Replica(
            system=self.experiment.model,
            seed=self.experiment.settings["seed_everything"],
            callbacks=[callback for callback in callbacks if isinstance(callback, Distillation | Multitask)],
            selector=CheckpointSelector(
                (model_checkpoint.monitor, model_checkpoint.mode),
                (early_stopping.monitor, early_stopping.mode),
                early_stopping.patience,
                early_stopping.min_delta,
            ),
            checkpoint=self.experiment.run_dir / CHECKPOINT_DIR / BEST_CHECKPOINT,
            loggers=self.experiment.trainer.loggers,
        )


def default_arguments(cls: type) -> dict[str, Any]:
    """What a class is made with where nothing is said."""
    return {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
