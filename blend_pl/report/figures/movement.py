"""Figures of true and decoded movement."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from blend_pl.prediction import Prediction
from blend_pl.report.figures.directions import angle_color, trial_angles, true_velocity
from blend_pl.report.figures.style import FIGURE_WIDTH, TEXT_COLOR, TRUTH_COLOR, colors_for_roles, subplots
from blend_pl.report.figures.variants import Variant, bin_times_ms, draw_legend, label_time_axis, mark_event

N_VELOCITY_TRIALS = 5
MAX_TRAJECTORIES = 96

LENGTH_UNITS = {"mc_": "mm", "simulated": "mm", "area2_bump": "cm"}
"""Unit of length of a session's velocities, by the prefix of its name."""


def draw_trajectories(variants: Sequence[Variant]) -> Figure | None:
    """Draws hand trajectories from the integrated velocity; returns None without two velocity components."""
    prediction = variants[0].prediction
    true = true_velocity(prediction)
    if true is None or true.shape[2] < 2:
        return None
    valid_trials = true.isfinite().all(2).all(1).nonzero()[:, 0]
    if not len(valid_trials):
        return None
    drawn_trials = valid_trials[:: max(1, math.ceil(len(valid_trials) / MAX_TRAJECTORIES))]
    angles = trial_angles(prediction)
    panels = [("true", TRUTH_COLOR, true)]
    for variant, color in zip(variants, colors_for_roles([variant.role for variant in variants]), strict=True):
        if variant.prediction.velocity is not None:
            panels.append((variant.label("vel_r2", "R²"), color, variant.prediction.velocity))
    bin_s = prediction.session.bin_ms / 1000
    trajectories = [(velocity[drawn_trials, :, :2].nan_to_num() * bin_s).cumsum(1) for _, _, velocity in panels]
    axis_limit = float(trajectories[0].abs().amax((1, 2)).quantile(0.98)) * 1.05
    columns = min(3 if len(panels) != 4 else 4, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = subplots(rows, columns, height=rows * FIGURE_WIDTH / columns, sharex=True, sharey=True)
    for ax, (name, color, _), trial_points in zip(axes.flat, panels, trajectories, strict=False):
        for trial, points in zip(drawn_trials.tolist(), trial_points, strict=True):
            trajectory = np.vstack([np.zeros(2), points.numpy()])
            ax.plot(*trajectory.T, color=angle_color(angles[trial]), linewidth=0.9, alpha=0.8, clip_on=False)
        ax.set_title(name, color=color, fontweight="bold")
        ax.set(xlim=(-axis_limit, axis_limit), ylim=(-axis_limit, axis_limit), aspect="equal")
        ax.axis("off")
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    _scale_bar(axes[0, 0], axis_limit, _unit(prediction, "length"))
    return figure


def draw_velocities(variants: Sequence[Variant]) -> Figure | None:
    """Draws true and decoded velocity in a few trials; returns None for a session without velocity."""
    prediction = variants[0].prediction
    true = true_velocity(prediction)
    if true is None:
        return None
    valid_trials = true.isfinite().all(2).all(1).nonzero()[:, 0]
    if not len(valid_trials):
        return None
    # Selects trials at even steps of the sorted directions.
    trials_by_angle = valid_trials[trial_angles(prediction)[valid_trials].argsort()]
    trials = (
        trials_by_angle[torch.linspace(0, len(trials_by_angle) - 1, 2 * N_VELOCITY_TRIALS + 1).long()[1::2]]
        .unique()
        .tolist()
    )
    n_outputs = true.shape[2]
    behavior = prediction.datamodule.spec.behavior
    time = bin_times_ms(prediction) + (behavior.lag_ms if behavior else 0)
    figure, axes = subplots(n_outputs, len(trials), height=0.9 + 1.7 * n_outputs, sharey=True)
    for column, trial in enumerate(trials):
        axes[0, column].set_title(f"trial {int(prediction.session.trial_id[trial])}", loc="left", color="#444444")
        for output in range(n_outputs):
            ax = axes[output, column]
            ax.axhline(0, color="#dddddd", linewidth=0.8, zorder=0)
            ax.plot(time, true[trial, :, output], color=TRUTH_COLOR, linewidth=2.4)
            for variant, color in zip(variants, colors_for_roles([variant.role for variant in variants]), strict=True):
                if variant.prediction.velocity is not None:
                    ax.plot(time, variant.prediction.velocity[trial, :, output], color=color, linewidth=1.5)
            ax.margins(x=0)
            mark_event(ax, prediction)
    for output, ax in enumerate(axes[:, 0]):
        ax.set_ylabel(f"{'xyz'[output] if n_outputs <= 3 else output} ({_unit(prediction, 'speed')})")
    label_time_axis(figure, prediction)
    draw_legend(figure, variants, "true velocity", "vel_r2", "R²")
    return figure


def _scale_bar(ax: Axes, axis_limit: float, unit: str) -> None:
    length = max(
        step * 10**power for power in range(-3, 5) for step in (1, 2, 5) if step * 10**power <= 0.6 * axis_limit
    )
    left, bottom = -0.98 * axis_limit, -0.96 * axis_limit
    ax.plot([left, left + length], [bottom, bottom], color=TEXT_COLOR, linewidth=2, solid_capstyle="butt")
    ax.text(left, bottom + 0.03 * axis_limit, f"{length:g} {unit}", va="bottom", fontsize=9, color=TEXT_COLOR)


def _unit(prediction: Prediction, quantity: str) -> str:
    name = prediction.datamodule.spec.name
    length_unit = next((unit for prefix, unit in LENGTH_UNITS.items() if name.startswith(prefix)), None)
    if quantity == "length":
        return length_unit or "(file's unit * s)"
    return f"{length_unit}/s" if length_unit else "file's unit"
