"""Figures of runs on simulated and recorded sessions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.cli import SIMULATION, experiment, fit, write_set
from matplotlib.figure import Figure
from matplotlib.image import imread

from blend_pl.prediction import Prediction, predict_run
from blend_pl.report import write_report
from blend_pl.report.figures import Variant, draw_psths, draw_rates, draw_trajectories, draw_velocities, style

Draw = Callable[[Sequence[Variant]], Figure | None]
DRAW_FUNCTIONS: tuple[Draw, ...] = (draw_rates, draw_psths, draw_trajectories, draw_velocities)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a run of a baseline, a run of a teacher, and a second baseline named like a student."""
    folder = tmp_path_factory.mktemp("simulated")
    data = [f"--data.root={folder / 'data'}", *SIMULATION]
    fit("simulated_baseline", folder / "runs", *data)
    fit("simulated_baseline", folder / "runs", *data, "--name=simulated_hard")
    fit("simulated_teacher", folder / "runs", *data)
    return folder / "runs"


@pytest.fixture(scope="module")
def variants(simulated: Path) -> list[Variant]:
    runs = {name: next((simulated / f"simulated_{name}").glob("seed*")) for name in ("baseline", "teacher", "hard")}
    return [Variant(name, {"hard": "student"}.get(name, name), predict_run(run), {}) for name, run in runs.items()]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    """Prediction on a recorded session, without conditions and true rates."""
    folder = tmp_path_factory.mktemp("mc_rtt")
    return predict_run(
        fit("mc_rtt_baseline", folder / "runs", *write_set(experiment("mc_rtt_baseline"), folder / "data"))
    )


@pytest.mark.parametrize("draw", DRAW_FUNCTIONS)
def test_figures_are_readable_images(variants: list[Variant], draw: Draw, tmp_path: Path) -> None:
    figure = draw(variants)
    assert figure is not None
    style.save_figure(figure, tmp_path / "figure.png")
    image = imread(tmp_path / "figure.png")
    assert image.shape[1] >= 900
    assert image.std() > 0.02


def test_rates_show_the_truth_and_every_variant(variants: list[Variant]) -> None:
    axis = draw_rates(variants).axes[0]
    session = variants[0].prediction.session
    name = axis.get_title(loc="left")
    neuron = session.unit_id.tolist().index(int(name.split()[-1]))
    assert "held-out" in name
    assert neuron >= session.n_heldin
    true = variants[0].prediction.datamodule.true_rates("eval")
    assert true is not None
    lines = [torch.as_tensor(line.get_ydata()) for line in axis.lines]
    candidates = true[:, : session.n_observed, neuron] * 50
    trial = int((candidates - lines[0]).abs().sum(1).argmin())
    torch.testing.assert_close(candidates[trial], lines[0], check_dtype=False)
    for variant, line in zip(variants, lines[1:4], strict=True):
        expected = variant.prediction.rates[trial, : session.n_observed, neuron] * 50
        torch.testing.assert_close(expected, line, check_dtype=False)


def test_trajectories_are_the_integrated_velocity(variants: list[Variant]) -> None:
    figure = draw_trajectories(variants)
    assert figure is not None
    session = variants[0].prediction.session
    line = figure.axes[0].lines[0]
    end = session.behavior[0, : session.n_observed].double().sum(0) * 0.02
    assert [line.get_xdata()[0], line.get_ydata()[0]] == [0, 0]
    assert [line.get_xdata()[-1], line.get_ydata()[-1]] == pytest.approx(end.tolist(), rel=1e-5)


def test_velocities_are_drawn_at_the_time_of_the_movement(variants: list[Variant]) -> None:
    figure = draw_velocities(variants)
    assert figure is not None
    time = figure.axes[0].lines[1].get_xdata()
    assert [time[0], time[-1]] == [-250 + 10 + 100, 450 - 10 + 100]


def test_smoothed_spikes_replace_unknown_true_rates(recorded: Prediction) -> None:
    figure = draw_rates([Variant("baseline", "baseline", recorded, {})])
    assert "smoothed" in figure.legends[0].texts[0].get_text()


def test_figures_without_data_are_not_drawn(recorded: Prediction) -> None:
    variant = Variant("baseline", "baseline", recorded, {})
    assert draw_psths([variant]) is None
    assert draw_trajectories([variant]) is not None
    session = recorded.session
    without_behavior = replace(session, behavior=torch.full_like(session.behavior, torch.nan))
    recorded.datamodule.subsets["eval"] = without_behavior
    try:
        uncached = [replace(variant, prediction=replace(recorded))]
        assert draw_trajectories(uncached) is None
        assert draw_velocities(uncached) is None
    finally:
        recorded.datamodule.subsets["eval"] = session


def test_behavior_other_than_movement_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, save = [], style.save_figure
    monkeypatch.setattr(style, "save_figure", lambda figure, path: (drawn.append(figure), save(figure, path)))
    run = fit("dmfc_rsg_baseline", tmp_path, *write_set(experiment("dmfc_rsg_baseline"), tmp_path / "data"))
    write_report([str(run)], str(tmp_path))
    text = (tmp_path / "report.md").read_text()
    assert "tp corr ↓" in text
    assert [kind in text for kind in ("-trajectories.png", "-velocities.png", "-rates.png", "-psths.png")] == [
        *(False, False, True, True)
    ]
    assert "direction of the hand" not in text
    scores, rates, psths = drawn
    assert scores.axes[1].get_xlabel() == "tp corr (lower is better)"
    colors = {line.get_color() for line in psths.axes[0].lines}
    assert len(colors) > 1
    session = predict_run(run).session
    times = rates.axes[0].lines[0].get_xdata()
    assert times[0] + 1500 - 10 in {float(shift) * 20 for shift in session.jitter}


def test_unrecorded_held_out_neurons_are_not_drawn(variants: list[Variant]) -> None:
    session = variants[0].prediction.session
    observed = session.observed.clone()
    observed[..., 1] = False
    hidden = replace(session, observed=observed, spikes=session.spikes.clone())
    hidden.spikes[..., session.n_heldin :] = 0
    subsets = variants[0].prediction.datamodule.subsets
    subsets["eval"] = hidden
    try:
        figure = draw_rates(variants[:1])
    finally:
        subsets["eval"] = session
    assert all("held-in" in axis.get_title(loc="left") for axis in figure.axes)


def test_report_contains_all_figures(simulated: Path, tmp_path: Path) -> None:
    write_report([str(simulated)], str(tmp_path))
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == 5
    assert len(list(tmp_path.glob("*.png"))) == 5
    assert "No rates" not in (tmp_path / "report.md").read_text()
