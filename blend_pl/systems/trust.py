"""Classes that the settings of a checkpoint may name: those of models and of their training."""

import importlib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

TRUSTED_BASES = (nn.Module, Optimizer, LRScheduler)
"""Base classes of the classes that may be instantiated, in addition to the classes of this package."""
DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def find_untrusted_class(settings: Any) -> str | None:
    """Returns the first name in the settings of a checkpoint that is not trusted.

    jsonargparse calls any callable that a setting names: without this check, a checkpoint could name `os.system`. The
    modules of names are imported for the check, so that installed code may be loaded; it is not called.

    Args:
        settings: hyper-parameters of a checkpoint, nested to any depth.

    Returns:
        The name; None if all names are classes of networks, optimizers, schedules or this package.
    """
    for name, is_class in _iter_names(settings):
        resolved = _resolve_name(name)
        # Other strings, such as "model.v2", may look like a name.
        if (is_class and resolved is None) or not (resolved is None or _is_trusted(resolved)):
            return name
    return None


def _is_trusted(resolved: Any) -> bool:
    return isinstance(resolved, type) and (
        issubclass(resolved, TRUSTED_BASES) or resolved.__module__.startswith("blend_pl.")
    )


def _iter_names(value: Any) -> Iterator[tuple[str, bool]]:
    """Iterates over all strings that look like a name, and whether each is given as a class path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("class_path", "_class_path"):
                yield str(inner), True
            else:
                yield from _iter_names(inner)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from _iter_names(inner)
    elif isinstance(value, str):
        if DOTTED_NAME.fullmatch(value):
            yield value, False
        yield from _iter_names_in_text(value)


def _iter_names_in_text(text: str) -> Iterator[tuple[str, bool]]:
    """Iterates over the names in a string that is YAML or the path of a file with YAML, as the parser reads it."""
    documents = [text]
    with suppress(OSError, ValueError):
        path = Path(text)
        # No device: its content may be endless.
        if path.is_file():
            documents.append(path.read_text())
    for document in documents:
        with suppress(yaml.YAMLError):
            parsed = yaml.safe_load(document)
            if isinstance(parsed, dict | list):
                yield from _iter_names(parsed)


def _resolve_name(name: str) -> Any:
    """Returns the object with a dotted name, or None if there is none."""
    components = name.split(".")
    for n_module_components in range(len(components) - 1, 0, -1):
        try:
            resolved: Any = importlib.import_module(".".join(components[:n_module_components]))
        except Exception:  # Modules raise errors of any type when they are imported.
            continue
        for attribute in components[n_module_components:]:
            resolved = getattr(resolved, attribute, None)
        return resolved
    return None
