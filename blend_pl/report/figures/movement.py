"""Figures that hold the movement that is decoded from the rates of runs against the true one."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes

from blend_pl.prediction import Prediction
from blend_pl.report.figures import style
from blend_pl.report.figures.arms import Arm, label_time, legend, mark_event, time_of
from blend_pl.report.figures.directions import angle_colour, trial_angles, true_velocity
from blend_pl.report.figures.style import TRUTH, WIDTH, colours_of, grid

N_TRACES = 5
N_REACHES = 96

UNITS = {"mc_": "mm", "simulated": "mm", "area2_bump": "cm"}
"""Length in which a session's velocities are given, by the start of its name."""


def draw_trajectories(arms: Sequence[Arm], path: Path) -> bool:
    """Paths of the hand from the integrated velocity, coloured by direction. False without two velocities."""
    prediction = arms[0].prediction
    true = true_velocity(prediction)
    if true is None or true.shape[2] < 2:
        return False
    known = true.isfinite().all(2).all(1).nonzero()[:, 0]
    if not len(known):
        return False
    shown = known[:: max(1, math.ceil(len(known) / N_REACHES))]
    angles = trial_angles(prediction)
    panels = [("true", TRUTH, true)]
    for arm, colour in zip(arms, colours_of([arm.role for arm in arms]), strict=True):
        if arm.prediction.velocity is not None:
            panels.append((arm.label("vel_r2", "R²"), colour, arm.prediction.velocity))
    seconds = prediction.session.bin_ms / 1000
    paths = [(velocity[shown, :, :2].nan_to_num() * seconds).cumsum(1) for _, _, velocity in panels]
    reach = float(paths[0].abs().amax((1, 2)).quantile(0.98)) * 1.05
    columns = min(3 if len(panels) != 4 else 4, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = grid(rows, columns, height=rows * WIDTH / columns, sharex=True, sharey=True)
    for axis, (name, colour, _), path_of in zip(axes.flat, panels, paths, strict=False):
        for trial, points in zip(shown.tolist(), path_of, strict=True):
            start = np.vstack([np.zeros(2), points.numpy()])
            axis.plot(*start.T, color=angle_colour(angles[trial]), linewidth=0.9, alpha=0.8, clip_on=False)
        axis.set_title(name, color=colour, fontweight="bold")
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axis.axis("off")
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    _scale_bar(axes[0, 0], reach, _unit(prediction, "length"))
    style.save(figure, path)
    return True


def draw_velocities(arms: Sequence[Arm], path: Path) -> bool:
    """Decoded velocity in a few trials against the truth. False for a session without velocity."""
    prediction = arms[0].prediction
    true = true_velocity(prediction)
    if true is None:
        return False
    known = true.isfinite().all(2).all(1).nonzero()[:, 0]
    if not len(known):
        return False
    # Trials of all directions.
    ordered = known[trial_angles(prediction)[known].argsort()]
    trials = ordered[torch.linspace(0, len(ordered) - 1, 2 * N_TRACES + 1).long()[1::2]].unique().tolist()
    outputs = true.shape[2]
    time = time_of(prediction) + prediction.datamodule.spec.behavior.lag_ms  # type: ignore[union-attr]
    figure, axes = grid(outputs, len(trials), height=0.9 + 1.7 * outputs, sharey=True)
    for column, trial in enumerate(trials):
        axes[0, column].set_title(f"trial {int(prediction.session.trial_id[trial])}", loc="left", color="#444444")
        for output in range(outputs):
            axis = axes[output, column]
            axis.axhline(0, color="#dddddd", linewidth=0.8, zorder=0)
            axis.plot(time, true[trial, :, output], color=TRUTH, linewidth=2.4)
            for arm, colour in zip(arms, colours_of([arm.role for arm in arms]), strict=True):
                if arm.prediction.velocity is not None:
                    axis.plot(time, arm.prediction.velocity[trial, :, output], color=colour, linewidth=1.5)
            axis.margins(x=0)
            mark_event(axis, prediction)
    for output, axis in enumerate(axes[:, 0]):
        axis.set_ylabel(f"{'xyz'[output] if outputs <= 3 else output} ({_unit(prediction, 'speed')})")
    label_time(figure, prediction)
    legend(figure, arms, "true velocity", "vel_r2", "R²")
    style.save(figure, path)
    return True


def _scale_bar(axis: Axes, reach: float, unit: str) -> None:
    length = max(step * 10**power for power in range(-3, 5) for step in (1, 2, 5) if step * 10**power <= 0.6 * reach)
    left, low = -0.98 * reach, -0.96 * reach
    axis.plot([left, left + length], [low, low], color=TRUTH, linewidth=2, solid_capstyle="butt")
    axis.text(left, low + 0.03 * reach, f"{length:g} {unit}", va="bottom", fontsize=9, color=TRUTH)


def _unit(prediction: Prediction, what: str) -> str:
    name = prediction.datamodule.spec.name
    length = next((unit for start, unit in UNITS.items() if name.startswith(start)), None)
    if what == "length":
        return length or "(file's unit * s)"
    return f"{length}/s" if length else "file's unit"
