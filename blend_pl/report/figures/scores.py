"""Figure of the scores of all seeds."""

import numpy as np
from matplotlib.figure import Figure

from blend_pl.report.comparison import Comparison
from blend_pl.report.figures.style import ROLE_COLORS, TEXT_COLOR, colors_for_roles, subplots
from blend_pl.runs.results import BASELINE, CONTROL


def draw_scores(comparison: Comparison) -> Figure | None:
    """Draws a dot per seed and a bar at the mean for each experiment; returns None without scores."""
    axis_labels = {
        "co_bps": "co-bps (bits per spike)",
        "vel_r2": "velocity R²",
        "tp_corr": "tp corr (lower is better)",
        "ei_balanced": "E/I, balanced accuracy",
        "subclass_balanced": "subclass, balanced accuracy",
    }
    keys = [key for key in axis_labels if any(experiment.scores_by_seed(key) for experiment in comparison.experiments)]
    if not keys:
        return None
    experiments = comparison.experiments
    figure, axes = subplots(1, len(keys), height=0.9 + 0.34 * len(experiments), sharex=False)
    # The baseline color marks the network that others are compared with; other baselines get control colors.
    colors = colors_for_roles([e.role if e.results.has_network else CONTROL for e in experiments])
    for ax, key in zip(axes[0], keys, strict=True):
        baseline = next((e for e in experiments if e.role == BASELINE and e.scores_by_seed(key)), None)
        if baseline:
            mean = np.mean([*baseline.scores_by_seed(key).values()])
            ax.axvline(mean, color=ROLE_COLORS[BASELINE], linewidth=0.8, alpha=0.5, zorder=0)
        for row, (experiment, color) in enumerate(zip(experiments, colors, strict=True)):
            values = [*experiment.scores_by_seed(key).values()]
            ax.plot(values, [row] * len(values), "o", color=color, markersize=5, alpha=0.55, markeredgewidth=0)
            if values:
                ax.plot([np.mean(values)] * 2, [row - 0.3, row + 0.3], color=color, linewidth=2.2)
        ax.margins(x=0.08)
        ax.set(xlabel=axis_labels[key], ylim=(len(experiments) - 0.4, -0.6))
        ax.set_yticks(range(len(experiments)), [comparison.display_name(experiment) for experiment in experiments])
        ax.tick_params(axis="y", length=0, labelcolor=TEXT_COLOR)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="y", color="#eeeeee")
        ax.set_axisbelow(True)
        if ax is not axes[0, 0]:
            ax.set_yticklabels([])
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
    return figure
