"""Data modules from settings: of a set by name, or of a finished run."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch.core import LightningDataModule

from blend_pl.config import YAML_SUFFIXES, Config, compose_experiment, find_config, list_configs, merge, split_reference
from blend_pl.data.base import NeuralDataModule
from blend_pl.errors import ConfigError
from blend_pl.utils.suggestions import explain_parser_error

EXPERIMENTS_DIR = Path("experiments")


def load(name: str | Path, **arguments: Any) -> NeuralDataModule:
    """Returns the data module of a set, of an experiment, or of a config file.

    Recordings are read, simulated or downloaded when a trainer or `evaluate` first needs them.

    Args:
        name: name of a set or an experiment of the package, such as "simulated" or "mc_maze_small" (`blend_pl list`
            shows them), or the path of a YAML file; several files are joined by `+`.
        **arguments: arguments of the data module that replace those of the experiment, such as `root` or `bin_ms`.

    Returns:
        The data module, before `setup`.

    Raises:
        ConfigError: there is no such set or file, or an argument is unknown or has a value that is not allowed.

    Example:
        >>> import blend_pl as bp
        >>> bp.load("mc_maze_small", bin_ms=20).bin_ms
        20
    """
    text = str(name)
    paths = split_reference(text) if text.endswith(YAML_SUFFIXES) else [_named_experiment(text)]
    config = compose_experiment(paths)
    if "class_path" not in config.get("data", {}):
        raise ConfigError(f"{name} has no data settings; name a set, an experiment or a file in configs/data")
    try:
        return instantiate_datamodule(merge(config["data"], {"init_args": arguments}))
    except ArgumentError as error:
        raise ConfigError(f"the data settings of {name} are invalid: {explain_parser_error(str(error))}") from error


def instantiate_datamodule(settings: Mapping[str, Any]) -> NeuralDataModule:
    """Returns the data module with the settings `class_path` and `init_args`, before `setup`.

    Raises:
        ArgumentError: a setting is unknown or has a value that is not allowed.
        ConfigError: the class is not a data module of this package, or refuses its arguments.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    config: Config = {"data": dict(settings)}
    try:
        datamodule = parser.instantiate_classes(parser.parse_object(config)).data
    except ValueError as error:
        # The parser raises errors of constructors as ValueError.
        raise ConfigError(explain_parser_error(str(error))) from error
    if not isinstance(datamodule, NeuralDataModule):
        raise ConfigError(f"{type(datamodule).__name__} is not a NeuralDataModule; name a data module of this package")
    return datamodule


def digest_of_settings(settings: Mapping[str, Any]) -> str | None:
    """Returns the digest of the data with these settings, which are read; see `NeuralDataModule.digest`.

    Raises:
        BlendError: see `instantiate_datamodule` and `NeuralDataModule.setup`.
    """
    datamodule = instantiate_datamodule(settings)
    datamodule.setup("fit")
    return datamodule.digest


def _named_experiment(name: str) -> Path:
    path = EXPERIMENTS_DIR / f"{name}.yaml"
    if not find_config(path).exists():
        names = [file.stem for file in list_configs(EXPERIMENTS_DIR)]
        similar = get_close_matches(name, names, 3) or names
        raise ConfigError(f"there is no set or experiment {name}; choose from {', '.join(similar)}, or name a file")
    return path
