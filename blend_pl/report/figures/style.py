"""Style of all figures: size, colors and axes."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from blend_pl.runs.results import BASELINE, STUDENT, TEACHER
from blend_pl.utils.files import atomic_file

TEXT_COLOR = "#262626"
TRUTH_COLOR = "#262626"
"""Color of the true or recorded values."""
ROLE_COLORS = {TEACHER: "#009E73", BASELINE: "#0072B2", STUDENT: "#D55E00"}
"""Colors of the palette of Okabe and Ito, which remain distinct with any type of color vision."""
CONTROL_COLORS = ("#CC79A7", "#E69F00", "#56B4E9")

SCORE_CMAP = LinearSegmentedColormap.from_list("shades", ("#D8DEE6", "#56B4E9", "#0072B2", "#0B2A45"))
"""Colormap from the worst to the best score."""

TEXT_BBOX: Any = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
"""Box behind text that overlaps lines."""

RC_PARAMS: Any = {
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
FIGURE_WIDTH = 9.0
"""Width in inches; at 900 px a point is 1.4 px, so the smallest text stays readable."""


def subplots(
    rows: int, columns: int, height: float, sharex: bool = True, sharey: Any = False
) -> tuple[Figure, np.ndarray]:
    """Returns a figure of the report's width and style, and its (rows, columns) axes; height in inches."""
    with mpl.rc_context(RC_PARAMS):
        figure = Figure(figsize=(FIGURE_WIDTH, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    return figure, axes


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG file atomically."""
    with mpl.rc_context(RC_PARAMS), atomic_file(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, dpi=DPI, format="png", facecolor="white")


def colors_for_roles(roles: Sequence[str]) -> list[str]:
    """Returns a color for each role; several controls get different colors."""
    control_colors = cycle(CONTROL_COLORS)
    return [ROLE_COLORS.get(role) or next(control_colors) for role in roles]
