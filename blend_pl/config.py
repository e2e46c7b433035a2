"""Experiment files that build on other files, and command lines that name several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from blend_pl.errors import ConfigError

Config = dict[str, Any]

BASE_KEY = "base"
PATH_KEYS = (("distillation", "teacher"), ("pretrained", "model"))
"""Settings that may name a file or several; like `base`, they are read relative to the file that holds them."""


def compose(path: Path) -> Config:
    """Reads a config file and everything it builds on.

    The files named under `base` are read first, in order, then the file's own settings, as `merge` says.

    Args:
        path: YAML file.

    Returns:
        The merged settings, without `base`.

    Raises:
        ConfigError: a file is missing, is no YAML mapping, or builds on itself.
    """
    return _compose(path, ())


def compose_arguments(arguments: Sequence[str]) -> list[str]:
    """Replaces all `--config FILE`s by the settings that they are together composed of, the later file winning."""
    other_arguments: list[str] = []
    config: Config = {}
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        if flag != "--config":
            other_arguments.append(argument)
            continue
        path = Path(value if equals else next(remaining, ""))
        config = merge(config, compose(path))
        config.setdefault("name", path.stem)
    if not config:
        return other_arguments
    return [*other_arguments[:1], "--config", yaml.safe_dump(config, sort_keys=False), *other_arguments[1:]]


def _compose(path: Path, parents: tuple[Path, ...]) -> Config:
    if path.resolve() in parents:
        raise ConfigError(f"{path} builds on itself; take it out of the `base` of {parents[-1]}")
    settings = read_yaml(path, "config", "holds no settings; write it as `key: value` lines")
    merged: Config = {}
    bases = settings.pop(BASE_KEY, None) or []
    if not (isinstance(bases, list) and all(isinstance(base, str) for base in bases)):
        raise ConfigError(f"the `base` of {path} is {bases!r}; write a list of files, as in `base: [other.yaml]`")
    for base in bases:
        merged = merge(merged, _compose(path.parent / base, (*parents, path.resolve())))
    _resolve_references(settings, path.parent)
    return merge(merged, settings)


def read_yaml(path: Path, kind: str, invalid_message: str) -> Config:
    """Reads a YAML file that holds a mapping.

    Args:
        path: the file.
        kind: what kind of file it is, as an error calls it.
        invalid_message: what an error says of a file that holds something else.

    Raises:
        ConfigError: the file is missing, or is no YAML mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the {kind} file {path}: {error.strerror}; check its name") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} {invalid_message}")
    return content


def merge(base: Config, override: Config) -> Config:
    """Both mappings in one; where they differ the second wins, and mappings are merged in turn.

    The arguments of a class go with it: where the second names another `class_path` and brings `init_args`, these
    replace those of the first. A `class_path` alone keeps them, so that a student's settings become a teacher's.
    """
    merged = dict(base)
    if "init_args" in override and override.get("class_path", merged.get("class_path")) != merged.get("class_path"):
        merged.pop("init_args", None)
    for key, value in override.items():
        are_mappings = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if are_mappings else value
    return merged


def _resolve_references(config: Config, folder: Path) -> None:
    for group, key in PATH_KEYS:
        settings = config.get(group)
        reference = settings.get(key) if isinstance(settings, dict) else None
        if isinstance(reference, str):
            config[group][key] = _resolve_path(reference, folder)
        elif isinstance(reference, list):
            config[group][key] = [_resolve_path(name, folder) for name in reference]


def _resolve_path(reference: str, folder: Path) -> str:
    path = folder / reference
    return str(path.resolve()) if path.exists() else reference
