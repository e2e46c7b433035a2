"""A `fit` that may be trained with others, and whether it can be."""

import inspect
import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ModelSummary, ProgressBar
from lightning.pytorch.loggers import CSVLogger

from blend_pl.callbacks import Compiled, Cost, Distillation, Multitask, NLBEvaluation
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.multirun.build import Prepared
from blend_pl.multirun.checkpoint_selector import Selection
from blend_pl.multirun.replica import KINDS, Member
from blend_pl.runs.folder import BEST, CHECKPOINTS, MONITOR

OF_EACH = ("logger", "callbacks", "default_root_dir")
"""Settings of the trainer that every run has for itself."""
ALONE = (
    *("fast_dev_run", "overfit_batches", "reload_dataloaders_every_n_epochs", "barebones"),
    *("min_epochs", "min_steps", "max_time", "val_check_interval"),
)
"""Settings of the trainer that, unless they are left as they are, say when one model stops or is scored."""
HEEDED = {
    "checkpoint": (ModelCheckpoint, ("monitor", "mode", "dirpath", "filename", "verbose", "enable_version_counter")),
    "early_stopping": (EarlyStopping, ("monitor", "mode", "patience", "min_delta", "verbose", "log_rank_zero_only")),
}
"""What `Selection` knows of the settings of Lightning's callbacks, or need not know."""
SCORES = {"val/loss", MONITOR}
"""What a `Crowd` can tell."""
PASSIVE = (
    *(ProgressBar, ModelSummary, NLBEvaluation, EarlyStopping, ModelCheckpoint),
    *(Cost, Distillation, Multitask, Compiled),
)
"""Callbacks that a `Crowd` does without or takes the part of."""


@dataclass
class Entry:
    """A run that may be trained with others.

    Attributes:
        arguments: of `fit`.
        cli: made from them.
        claims: holds the run's folder.
    """

    arguments: list[str]
    cli: Prepared
    claims: ExitStack

    @property
    def budget(self) -> dict[str, Any]:
        """Settings of the trainer that runs must share to train together."""
        return {name: value for name, value in self.cli.settings["trainer"].items() if name not in OF_EACH}

    @property
    def setting(self) -> str:
        """Equal for runs on the same data by the same budget."""
        return json.dumps([self.cli.settings["data"], self.budget], sort_keys=True)

    @property
    def stackable(self) -> bool:
        """Whether this kind of run can be trained with others at all."""
        cli = self.cli
        return (
            type(cli.model) in KINDS
            and isinstance(cli.datamodule, NLBDataModule)
            and cli.trainer.world_size == 1
            and all(isinstance(logger, CSVLogger) for logger in cli.trainer.loggers)
            and not any(isinstance(value, dict | list) for value in self.budget.values())
            and self._is_plain
            # A checkpoint that it goes on from: it was begun alone.
            and not cli.config["fit"].ckpt_path
        )

    @property
    def _is_plain(self) -> bool:
        """Whether all that its settings ask for is heeded by those who train several."""
        trainer, settings = self.cli.trainer, self.cli.settings
        left = [(settings["trainer"][name], defaults(L.Trainer)[name]) for name in ALONE]
        for part, (kind, heeded) in HEEDED.items():
            left += [(settings[part][name], value) for name, value in defaults(kind).items() if name not in heeded]
        return (
            all(value == default for value, default in left)
            and all(isinstance(callback, PASSIVE) for callback in trainer.callbacks)
            and len(trainer.early_stopping_callbacks) == 1
            and {callback.monitor for callback in trainer.early_stopping_callbacks} <= SCORES
            and trainer.checkpoint_callback.monitor in SCORES
            # The one that chooses, and the last.
            and len(trainer.checkpoint_callbacks) == 2
            # One whose gradients overflow would hold up all.
            and getattr(trainer.precision_plugin, "scaler", None) is None
        )

    def member(self) -> Member:
        """What trains."""
        callbacks = self.cli.trainer.callbacks
        stopping = next(callback for callback in callbacks if isinstance(callback, EarlyStopping))
        chosen = self.cli.trainer.checkpoint_callback
        return Member(
            system=self.cli.model,
            seed=self.cli.settings["seed_everything"],
            callbacks=[callback for callback in callbacks if isinstance(callback, Distillation | Multitask)],
            selection=Selection(
                (chosen.monitor, chosen.mode), (stopping.monitor, stopping.mode), stopping.patience, stopping.min_delta
            ),
            checkpoint=self.cli.run / CHECKPOINTS / BEST,
            loggers=self.cli.trainer.loggers,
        )


def defaults(kind: type) -> dict[str, Any]:
    """What a class is made with where nothing is said."""
    return {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
