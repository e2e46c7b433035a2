"""Settings from which a system that was built in Python can be built again."""

import inspect
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import lightning as L

TRAINING_ARGUMENTS = ("optimizer", "schedule")
"""Arguments of systems that are not needed to load a trained network."""


class NotDescribableError(Exception):
    """A value that is neither plain data, nor a class, nor built from these."""


def describe_system(system_class: type, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the arguments of a system as plain data, in the form in which checkpoints store settings.

    Args:
        system_class: class of the system.
        arguments: arguments of its constructor.

    Returns:
        The settings with the key `_class_path`; None if an argument that the network depends on is, for example, a
        lambda, which cannot be stored.
    """
    settings = {}
    try:
        # Lightning leaves out arguments that cannot be pickled.
        if missing := _argument_names(system_class) - set(TRAINING_ARGUMENTS) - arguments.keys():
            raise NotDescribableError(missing)
        for name, value in arguments.items():
            with suppress(NotDescribableError) if name in TRAINING_ARGUMENTS else nullcontext():
                settings[name] = describe(value)
        return {"_class_path": _class_path(system_class), **settings}
    except NotDescribableError:
        return None


def _argument_names(system_class: type) -> set[str]:
    """Returns the names of the arguments of a system's constructor and of those of its base classes."""
    system_classes = [cls for cls in system_class.__mro__ if not issubclass(L.LightningModule, cls)]
    return {
        parameter.name
        for constructor in (vars(cls).get("__init__") for cls in system_classes)
        if inspect.isfunction(constructor)
        for parameter in list(inspect.signature(constructor).parameters.values())[1:]
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def describe(value: Any) -> Any:
    """Returns a value as plain data, with classes and objects as `class_path` and `init_args`.

    Args:
        value: plain data; a class or a `functools.partial` of a class, which build an object later; a dataclass; or an
            object with an attribute for each argument of its constructor.

    Raises:
        NotDescribableError: the value is something else, such as a function.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, type):
        return {"class_path": _class_path(value)}
    if isinstance(value, partial):
        if value.args or not isinstance(value.func, type):
            raise NotDescribableError(value)
        return _with_arguments(value.func, value.keywords)
    if is_dataclass(value):
        return {field.name: describe(getattr(value, field.name)) for field in fields(value) if field.init}
    try:
        names = inspect.signature(type(value)).parameters
    except ValueError as error:  # A class that is not written in Python, such as a tensor.
        raise NotDescribableError(value) from error
    if callable(value) or not all(hasattr(value, name) for name in names):
        raise NotDescribableError(value)
    return _with_arguments(type(value), {name: getattr(value, name) for name in names})


def _with_arguments(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    described = {name: describe(value) for name, value in arguments.items()}
    return {"class_path": _class_path(cls), **({"init_args": described} if described else {})}


def _class_path(cls: type) -> str:
    # A class within a function cannot be imported.
    if "<locals>" in cls.__qualname__:
        raise NotDescribableError(cls)
    return f"{cls.__module__}.{cls.__qualname__}"
