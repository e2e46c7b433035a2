"""Checks of the settings of an experiment before a file is written or a teacher is trained."""

import os
import re
import warnings
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from blend_pl.data.signature import MultiSessionSignature, SessionInfo, Signature
from blend_pl.errors import ConfigError, RangeError
from blend_pl.runs.results import flatten_settings
from blend_pl.systems import NeuralSystem
from blend_pl.utils.checks import COUNT, NON_NEGATIVE, POSITIVE, Interval, check_range
from blend_pl.utils.exceptions import explain_lightning_error
from blend_pl.utils.suggestions import did_you_mean, explain_parser_error

SEEDS = Interval(0, 2**32 - 1)

TRAINER_RANGES = {
    "max_epochs": COUNT,
    "max_steps": COUNT,
    "min_epochs": NON_NEGATIVE,
    "min_steps": NON_NEGATIVE,
    "num_nodes": COUNT,
    "check_val_every_n_epoch": COUNT,
    "val_check_interval": POSITIVE,
    "num_sanity_val_steps": NON_NEGATIVE,
    "log_every_n_steps": NON_NEGATIVE,
    "accumulate_grad_batches": COUNT,
    "gradient_clip_val": NON_NEGATIVE,
    "limit_train_batches": NON_NEGATIVE,
    "limit_val_batches": NON_NEGATIVE,
    "limit_test_batches": NON_NEGATIVE,
    "limit_predict_batches": NON_NEGATIVE,
    "overfit_batches": NON_NEGATIVE,
    "reload_dataloaders_every_n_epochs": NON_NEGATIVE,
}
"""Ranges of the settings of the trainer that are numbers."""

CALLBACK_RANGES = {
    "early_stopping.patience": COUNT,
    "early_stopping.min_delta": NON_NEGATIVE,
    "checkpoint.save_top_k": COUNT,
    "checkpoint.every_n_epochs": COUNT,
    "checkpoint.every_n_train_steps": COUNT,
}
"""Ranges of settings of the callbacks of Lightning."""

UNLIMITED = -1
UNLIMITED_SETTINGS = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.num_sanity_val_steps",
    "checkpoint.save_top_k",
)
"""Settings in which -1 means no limit."""

PLACEHOLDERS = (
    Signature("placeholder", 20, 16, 4, 12, 2, tuple(range(16))),
    MultiSessionSignature.from_sessions(
        "placeholder", 10, 20, [SessionInfo("placeholder", "animal", tuple("abcd"), tuple("efgh"))], 2
    ),
)
"""Signatures of small sessions."""


def check_settings(parser: LightningArgumentParser, config: Namespace, settings: dict[str, Any]) -> None:
    """Creates the data module, the system, the callbacks and the optimizer once, and discards them.

    Args:
        parser: parser of the settings.
        config: the parsed settings.
        settings: the same as plain data.

    Raises:
        ConfigError: a value is outside its range, or a class refuses its arguments.
    """
    try:
        _check_ranges(config)
        with isolate_rng():
            instances = instantiate(parser, config)
            _check_backbone(instances.model)
            _check_optimizer(instances.model)
    except ConfigError as error:
        raise ConfigError(locate(str(error), settings)) from error
    _check_devices(config.trainer)


def instantiate(parser: LightningArgumentParser, config: Namespace) -> Namespace:
    """Returns the settings with instances instead of class paths.

    Raises:
        ConfigError: a class refuses its arguments.
    """
    try:
        return parser.instantiate_classes(config)
    except ValueError as error:
        # The parser raises errors of constructors as ValueError.
        raise ConfigError(explain_parser_error(str(error))) from error


def locate(message: str, settings: dict[str, Any]) -> str:
    """Returns the message of a `RangeError` with the dotted name of the setting, if only one has its name and value."""
    match = re.fullmatch(r"(?P<name>[\w.]+) (?P<range>must be .*, not (?P<value>\S+))", message)
    if match is None:
        return message
    argument, value = match["name"].rpartition(".")[2], float(match["value"])
    keys = {
        key.replace(".init_args", "")
        for key, setting in flatten_settings(settings).items()
        if key.rpartition(".")[2] == argument and setting == value
    }
    return f"{keys.pop()} {match['range']}" if len(keys) == 1 else message


def _check_ranges(config: Namespace) -> None:
    ranges = {**{f"trainer.{name}": allowed for name, allowed in TRAINER_RANGES.items()}, **CALLBACK_RANGES}
    if not isinstance(config.seed_everything, bool):
        check_range(SEEDS, seed_everything=config.seed_everything)
    for key, allowed in ranges.items():
        value = config.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value == UNLIMITED and key in UNLIMITED_SETTINGS:
                continue
            check_range(allowed, **{key: value})


def _check_backbone(model: NeuralSystem) -> None:
    """Builds the network for a small session, whose sizes may not suit it; only errors of ranges are raised."""
    for signature in PLACEHOLDERS:
        try:
            with torch.device("meta"), warnings.catch_warnings(action="ignore"):
                model.make_backbone(model.dims(signature))
        except RangeError:
            raise
        except Exception:
            continue


def _check_optimizer(model: NeuralSystem) -> None:
    try:
        optimizer = model.make_optimizer([nn.Parameter(torch.zeros(1))])
        model.make_schedule(optimizer, 100)
    except RangeError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"the optimizer or its schedule refuses its arguments: {error}; change model.optimizer or model.schedule"
        ) from error


def _check_devices(trainer: Namespace) -> None:
    """Creates the part of the trainer that chooses devices, strategy and precision."""
    for name, names in (
        ("accelerator", [*AcceleratorRegistry.available_accelerators(), "auto", "gpu"]),
        ("strategy", [*StrategyRegistry.available_strategies(), "auto"]),
    ):
        if isinstance(trainer[name], str) and trainer[name] not in names:
            advice = did_you_mean(trainer[name], names) or f"choose from {', '.join(names)}"
            raise ConfigError(f"trainer.{name}: there is no {name} {trainer[name]}; {advice}")
    try:
        created = Trainer(
            **{name: trainer[name] for name in ("accelerator", "strategy", "devices", "num_nodes", "precision")},
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(explain_lightning_error(error)) from error
    n_cores = os.cpu_count() or 1
    if created.strategy.root_device.type == "cpu" and created.num_devices > n_cores:
        raise ConfigError(
            f"trainer.devices is {created.num_devices}, but this machine has {n_cores} CPU cores; use at most as many"
        )
