"""Runs in a figure, and their time axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from blend_pl.prediction import Prediction
from blend_pl.report.figures.style import RC_PARAMS, TRUTH_COLOR, colors_for_roles


@dataclass(frozen=True)
class Variant:
    """One run in a figure.

    Attributes:
        name: display name.
        role: role of the run, which decides the color; one of `ROLES`.
        prediction: rates of the run; all variants of a figure predict the same trials.
        scores: co_bps and vel_r2, if available.
    """

    name: str
    role: str
    prediction: Prediction
    scores: dict[str, float]

    def label(self, score: str, score_label: str) -> str:
        """Returns name and score, for a legend."""
        return f"{self.name} ({score_label} {self.scores[score]:.2f})" if score in self.scores else self.name


def bin_times_ms(prediction: Prediction) -> np.ndarray:
    """Returns the (T,) centers of the observed bins, in ms from the event."""
    session, start = prediction.session, prediction.datamodule.spec.window.start_ms
    return start + session.bin_ms * (np.arange(session.n_observed) + 0.5)


def label_time_axis(figure: Figure, prediction: Prediction) -> None:
    """Labels the time axis with its event."""
    align = prediction.datamodule.spec.window.align
    label = f"time from {align.removesuffix('_time').replace('_', ' ')} (ms)" if align else "time in the window (ms)"
    figure.supxlabel(label, fontsize=10, color="#444444")


def mark_event(ax: Axes, prediction: Prediction) -> None:
    """Draws a line at time 0 if the session is aligned to an event inside the window."""
    window = prediction.datamodule.spec.window
    if window.align and window.start_ms < 0 < window.stop_ms:
        ax.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)


def draw_legend(figure: Figure, variants: Sequence[Variant], truth_label: str, score: str, score_label: str) -> None:
    """Draws a legend of the truth and of every variant with its score above a figure."""
    entries = [(truth_label, TRUTH_COLOR, 2.4)]
    entries += [
        (variant.label(score, score_label), color, 1.8)
        for variant, color in zip(variants, colors_for_roles([variant.role for variant in variants]), strict=True)
    ]
    handles = [Line2D([], [], color=color, linewidth=linewidth, label=label) for label, color, linewidth in entries]
    with mpl.rc_context(RC_PARAMS):
        figure.legend(
            handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.4, columnspacing=1.6
        )
