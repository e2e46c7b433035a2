"""Figures of trained systems, for notebooks and scripts; they need matplotlib, which `blend-pl[plot]` installs."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from blend_pl.data.base import NeuralDataModule
from blend_pl.errors import ConfigError
from blend_pl.prediction import predict
from blend_pl.runs.results import BASELINE, CONTROL, STUDENT, TEACHER
from blend_pl.systems.base import NeuralSystem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from blend_pl.report.figures import Variant

Systems = NeuralSystem | Mapping[str, NeuralSystem]
"""A trained system, or several by the names that a figure shows."""


def rates(systems: Systems, datamodule: NeuralDataModule) -> "Figure":
    """Draws predicted rates of neurons in one trial, with true rates or smoothed spikes; ticks are spikes.

    Args:
        systems: a trained system, or several by name.
        datamodule: the data, an `NLBDataModule`.

    Returns:
        A matplotlib figure.

    Raises:
        ConfigError: a system is not trained, or matplotlib is not installed.
        DataError: the data are missing or damaged, or are not those of a system.
    """
    variants = _variants(systems, datamodule)
    from blend_pl.report.figures import draw_rates

    return draw_rates(variants)


def psths(systems: Systems, datamodule: NeuralDataModule) -> "Figure":
    """Draws recorded and predicted mean responses to each condition; see `rates`.

    Raises:
        ConfigError: the data have no conditions; see also `rates`.
    """
    variants = _variants(systems, datamodule)
    from blend_pl.report.figures import draw_psths

    return _require(draw_psths, variants, "conditions")


def trajectories(systems: Systems, datamodule: NeuralDataModule) -> "Figure":
    """Draws true paths of the hand and those decoded from predicted rates, from the integrated velocity; see `rates`.

    Raises:
        ConfigError: the behavior of the data is not a velocity in two dimensions; see also `rates`.
    """
    variants = _variants(systems, datamodule)
    from blend_pl.report.figures import draw_trajectories

    return _require(draw_trajectories, variants, "a velocity in two dimensions")


def velocities(systems: Systems, datamodule: NeuralDataModule) -> "Figure":
    """Draws true and decoded velocity in a few trials; see `rates`.

    Raises:
        ConfigError: the data have no velocity; see also `rates`.
    """
    variants = _variants(systems, datamodule)
    from blend_pl.report.figures import draw_velocities

    return _require(draw_velocities, variants, "a velocity")


def _variants(systems: Systems, datamodule: NeuralDataModule) -> "list[Variant]":
    """Returns the predictions of systems, with the roles that decide their colors.

    Each role but `control` has one color. The first teacher, the system named baseline and the first other system get
    the colors of their roles, all further ones those of controls.
    """
    try:
        # Registers how notebooks display a figure.
        import matplotlib.pyplot  # noqa: F401

        from blend_pl.report.figures import Variant
    except ImportError as error:
        raise ConfigError('figures need matplotlib; install it with: pip install "blend-pl[plot]"') from error
    systems_by_name = {type(systems).__name__.lower(): systems} if isinstance(systems, NeuralSystem) else systems
    variants: list[Variant] = []
    for name, system in systems_by_name.items():
        role = TEACHER if system.requires_privileged else BASELINE if name == BASELINE else STUDENT
        if role in {variant.role for variant in variants}:
            role = CONTROL
        variants.append(Variant(name, role, predict(system, datamodule), {}))
    return variants


def _require(
    draw: "Callable[[Sequence[Variant]], Figure | None]", variants: "Sequence[Variant]", requirement: str
) -> "Figure":
    figure = draw(variants)
    if figure is None:
        name = variants[0].prediction.datamodule.spec.name
        raise ConfigError(f"this figure needs {requirement}, which {name} lacks")
    return figure
