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

BUILT = (nn.Module, Optimizer, LRScheduler)
"""Whose subclasses may be built, beside the classes of this package."""
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def distrusted(settings: Any) -> str | None:
    """The first name in a checkpoint's settings that must not be followed.

    A parser calls whatever callable it finds where a setting wants one: without this, a checkpoint could name
    `os.system`. Names are imported to be looked at, so code that is installed here may be loaded; it is not called.

    Args:
        settings: what a checkpoint stores as hyper-parameters, nested as it likes.

    Returns:
        The name; None where there are only values, classes of networks, optimisers and schedules, and classes of this
        package.
    """
    for name, is_class in _names(settings):
        found = _import(name)
        # Other strings, such as "model.v2", may look like a name.
        if (is_class and found is None) or not (found is None or _trusted(found)):
            return name
    return None


def _trusted(found: Any) -> bool:
    return isinstance(found, type) and (issubclass(found, BUILT) or found.__module__.startswith("blend_pl."))


def _names(value: Any) -> Iterator[tuple[str, bool]]:
    """All that reads like a name, and whether it is given as a class path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("class_path", "_class_path"):
                yield str(inner), True
            else:
                yield from _names(inner)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from _names(inner)
    elif isinstance(value, str):
        if DOTTED.fullmatch(value):
            yield value, False
        yield from _names_in_text(value)


def _names_in_text(text: str) -> Iterator[tuple[str, bool]]:
    """A parser also takes a string for YAML, or for the name of a file with YAML."""
    texts = [text]
    with suppress(OSError, ValueError):
        path = Path(text)
        # Not a device, which may have no end.
        if path.is_file():
            texts.append(path.read_text())
    for each in texts:
        with suppress(yaml.YAMLError):
            parsed = yaml.safe_load(each)
            if isinstance(parsed, dict | list):
                yield from _names(parsed)


def _import(name: str) -> Any:
    """What a dotted name stands for; None if nothing."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except Exception:  # Whatever a module says when it is imported, it is not what was looked for.
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found
    return None
