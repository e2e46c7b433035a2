"""Examples in docstrings."""

import doctest
import importlib

import pytest
from helpers.cli import REPOSITORY


def modules_with_examples() -> list[str]:
    """Returns the names of all modules of the package with `>>>` in their source."""
    return [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((REPOSITORY / "blend_pl").rglob("*.py"))
        if ">>>" in path.read_text()
    ]


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize(
    "name",
    [
        "config.compose",
        "config.merge",
        "data.batch.Batch",
        "data.nlb.spec.SessionSpec",
        "data.signature.Signature",
        "data.standardize.Standardizer",
        "distillation.losses.CorrelationLoss",
        "distillation.losses.FeatureLoss",
        "distillation.losses.GaussianSoftLoss",
        "distillation.losses.HardLoss",
        "distillation.losses.RepresentationLoss",
        "distillation.losses.SoftLoss",
        "distillation.objective.MaskedReconstruction",
        "distillation.schedules.LinearSchedule",
        "likelihoods.Poisson",
        "masking.Masking",
        "metrics.bits_per_spike.BitsPerSpike",
        "metrics.bits_per_spike.bits_per_spike",
        "metrics.psth.PsthR2",
        "metrics.timing.TimingCorrelation",
        "metrics.velocity.VelocityR2",
        "models.autoencoder.PatchAutoencoder",
        "models.base.Dims",
        "models.layers.fusion.Concatenation",
        "models.layers.fusion.CrossAttention",
        "models.layers.fusion.FiLM",
        "models.lfads.LFADS",
        "models.ndt.NDT",
        "models.neuprint.NeuPRINT",
        "models.stndt.STNDT",
        "runs.results.derive_role",
        "systems.student.Student",
        "systems.teacher.Teacher",
    ],
)
def test_class_or_function_has_an_example(name: str) -> None:
    module_name, _, object_name = f"blend_pl.{name}".rpartition(".")
    documented = getattr(importlib.import_module(module_name), object_name)
    assert doctest.DocTestFinder(recurse=False).find(documented)[0].examples
