"""Figures of systems outside of a report."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.systems import make, make_teacher
from matplotlib.figure import Figure

from blend_pl import plot
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.errors import ConfigError
from blend_pl.prediction import predict


@pytest.mark.parametrize("draw", [plot.rates, plot.psths, plot.trajectories, plot.velocities])
def test_figures_of_one_system_and_of_several(draw: Callable[..., Figure], tiny: NLBDataModule, tmp_path: Path) -> None:
    student, teacher = make(signature=tiny.signature), make_teacher(tiny.signature)
    for systems in (student, {"teacher": teacher, "student": student, "other": student}):
        figure = draw(systems, tiny)
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_rates_are_those_of_the_system(tiny: NLBDataModule) -> None:
    student = make(signature=tiny.signature)
    axis = plot.rates(student, tiny).axes[0]
    neuron = tiny.subsets["eval"].unit_id.tolist().index(int(axis.get_title(loc="left").split()[-1]))
    drawn = torch.as_tensor(axis.lines[1].get_ydata())
    rates = predict(student, tiny).rates[:, : len(drawn), neuron] * 1000 / tiny.bin_ms
    assert (rates - drawn).abs().amax(1).min() < 1e-4


def test_data_without_conditions_raise(tiny: NLBDataModule) -> None:
    session = tiny.subsets["eval"]
    session.condition.fill_(-1)
    with pytest.raises(ConfigError, match="needs conditions, which tiny lacks"):
        plot.psths(make(signature=tiny.signature), tiny)
