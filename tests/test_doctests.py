"""Examples in docstrings."""

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest

import blend_pl.distillation
import blend_pl.masking
import blend_pl.models


def modules_of(package: ModuleType) -> list[str]:
    """Returns the names of a module and of all its submodules."""
    submodules = pkgutil.walk_packages(getattr(package, "__path__", []), prefix=f"{package.__name__}.")
    return [package.__name__, *(module.name for module in submodules)]


@pytest.mark.parametrize(
    "name",
    [name for package in (blend_pl.models, blend_pl.distillation, blend_pl.masking) for name in modules_of(package)],
)
def test_docstring_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize(
    "name",
    [
        "models.ndt.NDT",
        "models.stndt.STNDT",
        "models.lfads.LFADS",
        "models.neuprint.NeuPRINT",
        "masking.Masking",
        "distillation.losses.HardLoss",
        "distillation.losses.SoftLoss",
        "distillation.losses.FeatureLoss",
        "distillation.losses.CorrelationLoss",
    ],
)
def test_class_has_an_example(name: str) -> None:
    module_name, _, class_name = f"blend_pl.{name}".rpartition(".")
    documented = getattr(importlib.import_module(module_name), class_name)
    assert doctest.DocTestFinder(recurse=False).find(documented)[0].examples
