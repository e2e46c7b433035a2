"""Candidates for stacked training, and which of them can be stacked."""

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
"""Trainer settings that may differ between stacked runs."""
UNSUPPORTED_TRAINER_SETTINGS = (
    *("fast_dev_run", "overfit_batches", "reload_dataloaders_every_n_epochs", "barebones"),
    *("min_epochs", "min_steps", "max_time", "val_check_interval"),
)
"""Trainer settings that must have their defaults, because they change when a single model stops or is validated."""
SUPPORTED_CALLBACK_SETTINGS = {
    "checkpoint": (ModelCheckpoint, ("monitor", "mode", "dirpath", "filename", "verbose", "enable_version_counter")),
    "early_stopping": (EarlyStopping, ("monitor", "mode", "patience", "min_delta", "verbose", "log_rank_zero_only")),
}
"""Callbacks replaced by `CheckpointSelector`, with the settings that it supports or can ignore."""
AVAILABLE_METRICS = {"val/loss", DEFAULT_MONITOR}
"""Metrics that `StackedModule` computes."""
SUPPORTED_CALLBACKS = (
    *(ProgressBar, ModelSummary, NLBEvaluation, EarlyStopping, ModelCheckpoint),
    *(TrainingCost, Distillation, Multitask, Compiled),
)
"""Callbacks that stacked training supports, replaces or does not need."""


@dataclass
class Candidate:
    """A run that may be trained in a stack.

    Attributes:
        arguments: arguments of `fit`.
        experiment: experiment built from them.
        locks: exit stack that holds the lock of the run's folder.
    """

    arguments: list[str]
    experiment: Experiment
    locks: ExitStack

    @property
    def trainer_settings(self) -> dict[str, Any]:
        """Trainer settings that stacked runs must share."""
        return {
            name: value for name, value in self.experiment.settings["trainer"].items() if name not in PER_RUN_SETTINGS
        }

    @property
    def group_key(self) -> str:
        """Key that is equal for runs with the same data and trainer settings."""
        return json.dumps([self.experiment.settings["data"], self.trainer_settings], sort_keys=True)

    @property
    def is_stackable(self) -> bool:
        """Whether stacked training supports this run."""
        experiment = self.experiment
        return (
            type(experiment.model) in STACKABLE_SYSTEMS
            and isinstance(experiment.datamodule, NLBDataModule)
            and experiment.trainer.world_size == 1
            and all(isinstance(logger, CSVLogger) for logger in experiment.trainer.loggers)
            and not any(isinstance(value, dict | list) for value in self.trainer_settings.values())
            and self._has_supported_settings
            # A run with a checkpoint was started by `fit` and is resumed by it.
            and experiment.checkpoint is None
        )

    @property
    def _has_supported_settings(self) -> bool:
        """Whether stacked training supports all settings of the run."""
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
            # Synthetic trials replace those of a batch, which the models of a stack share.
            and not any(isinstance(callback, Distillation) and callback.synthetic for callback in trainer.callbacks)
            and len(trainer.early_stopping_callbacks) == 1
            and {callback.monitor for callback in trainer.early_stopping_callbacks} <= AVAILABLE_METRICS
            and trainer.checkpoint_callback.monitor in AVAILABLE_METRICS
            # The best and the last checkpoint.
            and len(trainer.checkpoint_callbacks) == 2
            # With a gradient scaler, an overflow of one model would skip the step of all.
            and getattr(trainer.precision_plugin, "scaler", None) is None
        )

    def make_replica(self) -> Replica:
        """Creates the replica that is trained in a stack."""
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
    """Returns the default arguments of a class."""
    return {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
