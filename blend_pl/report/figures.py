"""Figures that hold the rates of runs against the truth, and the scores of seeds against one another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from blend_pl.files import atomic_file
from blend_pl.prediction import Prediction
from blend_pl.report.comparison import BASELINE, SELF, STUDENT, TEACHER, Comparison

TRUTH = "#262626"
COLOURS = {TEACHER: "#009E73", BASELINE: "#0072B2", STUDENT: "#D55E00", SELF: "#CC79A7"}
"""Okabe and Ito's palette, told apart with any kind of colour vision."""
OTHERS = ("#E69F00", "#56B4E9")

ANGLES = LinearSegmentedColormap.from_list(
    "angles", ("#3B4CC0", "#2A9DB0", "#3FA34D", "#D9A521", "#D1495B", "#8E44AD", "#3B4CC0")
)
"""Direction of a movement; the two ends meet."""

SHADES = LinearSegmentedColormap.from_list("shades", ("#D8DEE6", "#56B4E9", "#0072B2", "#0B2A45"))
"""From the worst to the best of many."""

PAPER: Any = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
"""Behind text that lies on lines."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": "#444444",
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
}
DPI = 150
WIDTH = 9.0
"""Inches; at 900 px a point is 1.4 px, so that the smallest text stays readable."""

N_NEURONS = 6
N_PSTHS = 4
N_CONDITIONS = 16
N_TRACES = 5
N_REACHES = 96
SMOOTHING_MS = 50
"""Standard deviation of the kernel that stands in for the true rates of a real recording."""

UNITS = {"mc_": "mm", "simulated": "mm", "area2_bump": "cm"}
"""Length in which a session's velocities are given, by the start of its name."""


@dataclass(frozen=True)
class Arm:
    """One run in a figure.

    Attributes:
        name: how it is called.
        role: baseline, teacher, student, self or other; decides the colour.
        prediction: its rates; all arms of a figure predict the same trials.
        scores: co_bps and vel_r2, where it has them.
    """

    name: str
    role: str
    prediction: Prediction
    scores: dict[str, float]

    def label(self, score: str, sign: str) -> str:
        """Name and score, for a legend."""
        return f"{self.name} ({sign} {self.scores[score]:.2f})" if score in self.scores else self.name


def draw_scores(comparison: Comparison, path: Path) -> bool:
    """One dot a seed and a bar for the mean, for each experiment. False where there is no score to show."""
    names = {
        "co_bps": "co-bps (bits per spike)",
        "vel_r2": "velocity R²",
        "tp_corr": "tp corr (lower is better)",
        "ei_balanced": "E/I, balanced accuracy",
        "subclass_balanced": "subclass, balanced accuracy",
    }
    shown = [key for key in names if any(experiment.scores(key) for experiment in comparison.experiments)]
    if not shown:
        return False
    experiments = comparison.experiments
    figure, axes = grid(1, len(shown), height=0.9 + 0.34 * len(experiments), sharex=False)
    colours = _colours([experiment.role for experiment in experiments])
    for axis, key in zip(axes[0], shown, strict=True):
        baseline = next((e for e in experiments if e.role == BASELINE and e.scores(key)), None)
        if baseline:
            mean = np.mean([*baseline.scores(key).values()])
            axis.axvline(mean, color=COLOURS[BASELINE], linewidth=0.8, alpha=0.5, zorder=0)
        for row, (experiment, colour) in enumerate(zip(experiments, colours, strict=True)):
            values = [*experiment.scores(key).values()]
            axis.plot(values, [row] * len(values), "o", color=colour, markersize=5, alpha=0.55, markeredgewidth=0)
            if values:
                axis.plot([np.mean(values)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.2)
        axis.margins(x=0.08)
        axis.set(xlabel=names[key], ylim=(len(experiments) - 0.4, -0.6))
        axis.set_yticks(range(len(experiments)), [comparison.short(experiment) for experiment in experiments])
        axis.tick_params(axis="y", length=0, labelcolor=TRUTH)
        axis.spines["left"].set_visible(False)
        axis.grid(axis="y", color="#eeeeee")
        axis.set_axisbelow(True)
        if axis is not axes[0, 0]:
            axis.set_yticklabels([])
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
    save(figure, path)
    return True


def draw_rates(arms: Sequence[Arm], path: Path) -> bool:
    """Rates of single neurons in one trial, held-out ones if there are any, against true rates or smoothed spikes."""
    prediction = arms[0].prediction
    session, bins = prediction.session, prediction.session.n_observed
    true = prediction.datamodule.true_rates("eval")
    spikes = session.spikes[:, :bins].float()
    if true is None:
        smoothed = gaussian_filter1d(spikes.numpy(), SMOOTHING_MS / session.bin_ms, axis=1)
        true, name = torch.from_numpy(smoothed), f"spikes, smoothed (sd {SMOOTHING_MS} ms)"
    else:
        true, name = true[:, :bins], "true rate"
    first = session.n_heldin if session.observed[:, :bins, 1].any() and session.n_heldin < session.n_units else 0
    # A trial and neurons with much to see: where the truth varies most over time.
    variance = true[..., first:].float().var(1)
    trial = int(variance.sum(1).argsort()[int(0.9 * (len(variance) - 1))])
    neurons = variance[trial].argsort(descending=True)[:N_NEURONS].sort().values + first
    hertz, time = 1000 / session.bin_ms, _time(prediction) + int(session.jitter[trial]) * session.bin_ms
    columns = min(3, len(neurons))
    figure, axes = grid(math.ceil(len(neurons) / columns), columns, height=4.6)
    for axis, neuron in zip(axes.flat, neurons.tolist(), strict=False):
        axis.plot(time, true[trial, :, neuron] * hertz, color=TRUTH, linewidth=2.4)
        for arm, colour in zip(arms, _colours([arm.role for arm in arms]), strict=True):
            axis.plot(time, arm.prediction.rates[trial, :bins, neuron] * hertz, color=colour, linewidth=1.5)
        fired = (spikes[trial, :, neuron] > 0).numpy()
        axis.plot(
            time[fired], np.zeros(fired.sum()), "|", color="#888888", markersize=6, transform=axis.get_xaxis_transform()
        )
        kind = "held-out" if neuron >= session.n_heldin else "held-in"
        axis.set_title(f"{kind} neuron {int(session.unit_id[neuron])}", loc="left", color="#444444")
        axis.set_ylim(bottom=0)
        axis.margins(x=0)
        _mark_event(axis, prediction)
    for axis in axes.flat[len(neurons) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("rate (spikes/s)")
    _label_time(figure, prediction)
    _legend(figure, arms, name, "co_bps", "co-bps")
    save(figure, path)
    return True


def draw_psths(arms: Sequence[Arm], path: Path) -> bool:
    """Responses of a few neurons to each condition: recorded above, predicted below. False without conditions."""
    prediction = arms[0].prediction
    session = prediction.session
    counts = torch.bincount(session.condition[session.condition >= 0], minlength=len(session.psth))
    conditions = counts.nonzero()[:, 0]
    if not len(conditions):
        return False
    angles = _condition_angles(prediction)
    order = angles[conditions].argsort()
    conditions = conditions[order][:: max(1, math.ceil(len(conditions) / N_CONDITIONS))]
    hertz, time = 1000 / session.bin_ms, _time(prediction)
    rows = [("recorded", TRUTH, session.psth), *((arm.name, "", arm.prediction.psth()) for arm in arms)]
    colours = [TRUTH, *_colours([arm.role for arm in arms])]
    first = session.n_heldin if session.n_heldin < session.n_units else 0
    depth = session.psth[conditions][..., first:].nan_to_num().var((0, 1))
    neurons = depth.argsort(descending=True)[:N_PSTHS].sort().values + first
    figure, axes = grid(len(rows), len(neurons), height=0.7 + 1.35 * len(rows), sharey="col")
    for column, neuron in enumerate(neurons.tolist()):
        kind = "held-out" if neuron >= session.n_heldin else "held-in"
        axes[0, column].set_title(f"{kind} neuron {int(session.unit_id[neuron])}", loc="left", color="#444444")
        for axis, (_, _, psth) in zip(axes[:, column], rows, strict=True):
            for condition in conditions.tolist():
                line = {"color": _angle_colour(angles[condition]), "linewidth": 1.2, "alpha": 0.9}
                axis.plot(time, psth[condition, :, neuron] * hertz, **line)
            axis.margins(x=0)
            _mark_event(axis, prediction)
        axes[0, column].set_ylim(bottom=0)
    for axis, (name, _, _), colour in zip(axes[:, 0], rows, colours, strict=True):
        axis.set_ylabel(name, color=colour, fontweight="bold")
    _label_time(figure, prediction)
    figure.supylabel("mean rate of each condition (spikes/s)", fontsize=10, color="#444444")
    save(figure, path)
    return True


def draw_trajectories(arms: Sequence[Arm], path: Path) -> bool:
    """Paths of the hand from the integrated velocity, coloured by direction. False without two velocities."""
    prediction = arms[0].prediction
    true = _true_velocity(prediction)
    if true is None or true.shape[2] < 2:
        return False
    known = true.isfinite().all(2).all(1).nonzero()[:, 0]
    if not len(known):
        return False
    shown = known[:: max(1, math.ceil(len(known) / N_REACHES))]
    angles = _trial_angles(prediction)
    panels = [("true", TRUTH, true)]
    for arm, colour in zip(arms, _colours([arm.role for arm in arms]), strict=True):
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
            axis.plot(*start.T, color=_angle_colour(angles[trial]), linewidth=0.9, alpha=0.8, clip_on=False)
        axis.set_title(name, color=colour, fontweight="bold")
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axis.axis("off")
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    _scale_bar(axes[0, 0], reach, _unit(prediction, "length"))
    save(figure, path)
    return True


def draw_velocities(arms: Sequence[Arm], path: Path) -> bool:
    """Decoded velocity in a few trials against the truth. False for a session without velocity."""
    prediction = arms[0].prediction
    true = _true_velocity(prediction)
    if true is None:
        return False
    known = true.isfinite().all(2).all(1).nonzero()[:, 0]
    if not len(known):
        return False
    # Trials of all directions.
    ordered = known[_trial_angles(prediction)[known].argsort()]
    trials = ordered[torch.linspace(0, len(ordered) - 1, 2 * N_TRACES + 1).long()[1::2]].unique().tolist()
    outputs = true.shape[2]
    time = _time(prediction) + prediction.datamodule.spec.behavior.lag_ms  # type: ignore[union-attr]
    figure, axes = grid(outputs, len(trials), height=0.9 + 1.7 * outputs, sharey=True)
    for column, trial in enumerate(trials):
        axes[0, column].set_title(f"trial {int(prediction.session.trial_id[trial])}", loc="left", color="#444444")
        for output in range(outputs):
            axis = axes[output, column]
            axis.axhline(0, color="#dddddd", linewidth=0.8, zorder=0)
            axis.plot(time, true[trial, :, output], color=TRUTH, linewidth=2.4)
            for arm, colour in zip(arms, _colours([arm.role for arm in arms]), strict=True):
                if arm.prediction.velocity is not None:
                    axis.plot(time, arm.prediction.velocity[trial, :, output], color=colour, linewidth=1.5)
            axis.margins(x=0)
            _mark_event(axis, prediction)
    for output, axis in enumerate(axes[:, 0]):
        axis.set_ylabel(f"{'xyz'[output] if outputs <= 3 else output} ({_unit(prediction, 'speed')})")
    _label_time(figure, prediction)
    _legend(figure, arms, "true velocity", "vel_r2", "R²")
    save(figure, path)
    return True


def grid(rows: int, columns: int, height: float, sharex: bool = True, sharey: Any = False) -> tuple[Figure, np.ndarray]:
    """A figure of the report's width and style, and its (rows, columns) axes; height in inches."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG that appears whole or not at all."""
    with mpl.rc_context(STYLE), atomic_file(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, dpi=DPI, format="png", facecolor="white")


def _colours(roles: Sequence[str]) -> list[str]:
    others = iter(OTHERS * len(roles))
    return [COLOURS.get(role) or next(others) for role in roles]


def _time(prediction: Prediction) -> np.ndarray:
    """(T,) middles of the observed bins, ms from the event."""
    session, start = prediction.session, prediction.datamodule.spec.window.start_ms
    return start + session.bin_ms * (np.arange(session.n_observed) + 0.5)


def _label_time(figure: Figure, prediction: Prediction) -> None:
    align = prediction.datamodule.spec.window.align
    label = f"time from {align.removesuffix('_time').replace('_', ' ')} (ms)" if align else "time in the window (ms)"
    figure.supxlabel(label, fontsize=10, color="#444444")


def _mark_event(axis: Axes, prediction: Prediction) -> None:
    window = prediction.datamodule.spec.window
    if window.align and window.start_ms < 0 < window.stop_ms:
        axis.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)


def _legend(figure: Figure, arms: Sequence[Arm], truth: str, score: str, sign: str) -> None:
    entries = [(truth, TRUTH, 2.4)]
    entries += [
        (arm.label(score, sign), colour, 1.8)
        for arm, colour in zip(arms, _colours([arm.role for arm in arms]), strict=True)
    ]
    handles = [Line2D([], [], color=colour, linewidth=width, label=label) for label, colour, width in entries]
    with mpl.rc_context(STYLE):
        figure.legend(
            handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.4, columnspacing=1.6
        )


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


def _true_velocity(prediction: Prediction) -> Tensor | None:
    """(reported trials, T, Y) velocity; None for a session without."""
    return None if prediction.velocity is None else prediction.session.velocity.double()


def _trial_angles(prediction: Prediction) -> Tensor:
    """(trials,) direction of the mean velocity, averaged over the trials of a condition; 0 if unknown."""
    session, velocity = prediction.session, _true_velocity(prediction)
    if velocity is None or velocity.shape[2] < 2:
        return torch.zeros(len(session), dtype=torch.float64)
    mean = velocity[..., :2].nanmean(1).nan_to_num()
    for condition in session.condition[session.condition >= 0].unique():
        members = session.condition == condition
        mean[members] = mean[members].mean(0)
    return torch.atan2(mean[:, 1], mean[:, 0])


def _condition_angles(prediction: Prediction) -> Tensor:
    """(conditions,) the same by condition; spread evenly over the circle where no movement is known."""
    session, angles = prediction.session, _trial_angles(prediction)
    if not angles.any():
        return torch.linspace(-math.pi, math.pi, len(session.psth) + 1, dtype=torch.float64)[:-1]
    result = torch.zeros(len(session.psth), dtype=torch.float64)
    result[session.condition[session.condition >= 0]] = angles[session.condition >= 0]
    return result


def _angle_colour(angle: Tensor) -> tuple[float, float, float, float]:
    return ANGLES(float(angle) / (2 * math.pi) % 1.0)
