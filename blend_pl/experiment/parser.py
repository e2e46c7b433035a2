"""The parser of experiments: settings of the data, the model, the trainer and its callbacks."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import lightning as L
import yaml
from jsonargparse import ActionConfigFile, Namespace
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.core import LightningDataModule

import blend_pl
from blend_pl.callbacks import Distillation, Multitask, Pretrained
from blend_pl.compat import upgrade_config
from blend_pl.config import compose_arguments
from blend_pl.runs.folder import BEST_CHECKPOINT, DEFAULT_MODE, DEFAULT_MONITOR, DEFAULT_OUTPUT, LOSS_MONITOR
from blend_pl.runs.results import ROLES
from blend_pl.systems import NeuralSystem
from blend_pl.systems.base import INSTANTIATOR_KEY
from blend_pl.systems.checkpoint import read_checkpoint

Command = Literal["fit", "validate", "test", "predict"]
ExperimentConfig = str | Path | Mapping[str, Any] | Sequence[str]
"""The path of an experiment file, a mapping of settings, or command-line arguments."""

INSTANCES: set[str | int] = {"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders"}
"""Arguments of the trainer's methods that are no settings."""


def make_parser(command: Command = "fit") -> LightningArgumentParser:
    """Returns the parser of the settings of one experiment.

    Args:
        command: the method of the trainer, which adds its arguments, as `--ckpt_path`.
    """
    parser = LightningArgumentParser(
        prog=f"python -m blend_pl {command}",
        description="Settings of an experiment, its data, model, trainer and callbacks.",
        exit_on_error=False,
        dump_header=[f"lightning.pytorch=={L.__version__}"],
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file of settings; may be repeated")
    parser.add_argument(
        "--seed_everything",
        type=bool | int,
        default=0,
        help="seed of all draws; false leaves the generators as they are",
    )
    parser.add_lightning_class_args(L.Trainer, "trainer")
    parser.add_lightning_class_args(NeuralSystem, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    parser.add_argument("--name", type=str, default="run", help="name of the experiment")
    parser.add_argument(
        "--role",
        type=Literal[ROLES] | None,
        default=None,
        help="role in a comparison; default: derived from the settings",
    )
    parser.add_argument("--output", type=str, default=str(DEFAULT_OUTPUT), help="folder of all runs")
    parser.add_argument("--run_dir", type=str | None, default=None, help="folder of this run; default: a new one")
    parser.add_argument(
        "--resume", type=bool, default=False, help="continue the run with these settings, if there is one"
    )
    parser.add_argument("--distillation", type=Distillation | None, default=None, help="teacher, loss and alpha")
    parser.add_argument("--pretrained", type=Pretrained | None, default=None, help="model with the initial weights")
    parser.add_argument("--multitask", type=Multitask | None, default=None, help="control: decode behavior too")
    parser.add_argument("--teacher_args", type=list[str], default=[], help="more arguments to train a missing teacher")
    parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
    parser.add_lightning_class_args(EarlyStopping, "early_stopping")
    parser.set_defaults(
        {
            "checkpoint.filename": Path(BEST_CHECKPOINT).stem,
            "checkpoint.enable_version_counter": False,
            "checkpoint.monitor": DEFAULT_MONITOR,
            "checkpoint.mode": DEFAULT_MODE,
            "early_stopping.monitor": DEFAULT_MONITOR,
            "early_stopping.mode": DEFAULT_MODE,
        }
    )
    parser.add_method_arguments(L.Trainer, command, skip=INSTANCES)
    return parser


def setting_names_of(parser: LightningArgumentParser) -> list[str]:
    """Returns the dotted names of all settings but those of classes that the settings name."""
    return [str(name) for name in parser.get_defaults(skip_validation=True).keys(branches=True)]


def to_arguments(config: ExperimentConfig) -> list[str]:
    """Returns command-line arguments in which all experiment files and settings are one `--config`.

    Args:
        config: path of an experiment file, settings, or arguments that may begin with paths of experiment files.

    Raises:
        ConfigError: a file is missing or not a YAML mapping.
    """
    if isinstance(config, Mapping):
        return ["--config", yaml.safe_dump(upgrade_config(dict(config)), sort_keys=False)]
    if isinstance(config, str | Path):
        return compose_arguments(["--config", str(config)])
    arguments = list(config)
    n_paths = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    paths = [word for path in arguments[:n_paths] for word in ("--config", path)]
    return compose_arguments([*paths, *arguments[n_paths:]])


def parse_settings(parser: LightningArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parses arguments; the settings of the model of a checkpoint replace those of the arguments.

    Where no unit is held out, there is no val/co_bps, and the masked validation loss selects the checkpoint instead.

    Raises:
        ArgumentError: an argument is not a setting, or has a value that is not allowed.
        TeacherError: the checkpoint cannot be used.
    """
    config = parser.parse_args([*arguments])
    if _holds_out_no_unit(config):
        for callback in (config.checkpoint, config.early_stopping):
            if callback.monitor == DEFAULT_MONITOR:
                callback.monitor, callback.mode = LOSS_MONITOR, "min"
    if not config.ckpt_path:
        return config
    hyper_parameters = dict(read_checkpoint(Path(config.ckpt_path))["hyper_parameters"])
    hyper_parameters.pop(INSTANTIATOR_KEY)
    class_path = hyper_parameters.pop("_class_path")
    return parser.parse_object({"model": {"class_path": class_path, "dict_kwargs": hyper_parameters}}, config)


def _holds_out_no_unit(config: Namespace) -> bool:
    """Whether the settings of the data say that no unit is held out."""
    held_out = config.data.init_args.get("spec.held_out") if config.data else None
    return held_out is not None and held_out.fraction == 0 and not held_out.by_fold


def to_dict(parser: LightningArgumentParser, config: Namespace) -> dict[str, Any]:
    """Returns parsed settings as plain data."""
    settings: dict[str, Any] = _qualify_class_paths(
        yaml.safe_load(parser.dump(config, skip_none=False, skip_validation=True))
    )
    return settings


def _qualify_class_paths(settings: Any) -> Any:
    """Replaces class paths such as blend_pl.NDT by those of the subpackage, blend_pl.models.NDT.

    The parser writes the shortest path of a class. Fingerprints of runs do not depend on the names that the package
    exports at its top.
    """
    if isinstance(settings, list):
        return [_qualify_class_paths(item) for item in settings]
    if not isinstance(settings, dict):
        return settings
    qualified = {key: _qualify_class_paths(value) for key, value in settings.items()}
    package, _, name = str(settings.get("class_path", "")).rpartition(".")
    if package == blend_pl.__name__:
        module = getattr(blend_pl, name).__module__
        subpackage = ".".join(module.split(".")[:2])
        is_exported = hasattr(import_module(subpackage), name)
        qualified["class_path"] = f"{subpackage if is_exported else module}.{name}"
    return qualified
