"""What the settings of a checkpoint may name: classes of models and of how they are trained, and nothing else."""

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
"""Whose subclasses may be built, beside the classes of this package."""
DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def find_untrusted_class(settings: Any) -> str | None:
    """The first name in a checkpoint's settings that must not be followed.

    A parser calls whatever callable it finds where a setting wants one: without this, a checkpoint could name
    `os.system`. Names are imported to be looked at, so code that is installed here may be loaded; it is not called.

    Args:
        settings: what a checkpoint stores as hyper-parameters, nested as it likes.

    Returns:
        The name; None where there are only values, classes of networks, optimisers and schedules, and classes of this
        package.
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
    """All that reads like a name, and whether it is given as a class path."""
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
    """A parser also takes a string for YAML, or for the name of a file with YAML."""
    documents = [text]
    with suppress(OSError, ValueError):
        path = Path(text)
        # Not a device, which may have no end.
        if path.is_file():
            documents.append(path.read_text())
    for document in documents:
        with suppress(yaml.YAMLError):
            parsed = yaml.safe_load(document)
            if isinstance(parsed, dict | list):
                yield from _iter_names(parsed)


def _resolve_name(name: str) -> Any:
    """What a dotted name stands for; None if nothing."""
    components = name.split(".")
    for n_module_components in range(len(components) - 1, 0, -1):
        try:
            resolved: Any = importlib.import_module(".".join(components[:n_module_components]))
        except Exception:  # Whatever a module says when it is imported, it is not what was looked for.
            continue
        for attribute in components[n_module_components:]:
            resolved = getattr(resolved, attribute, None)
        return resolved
    return None
