"""A figure of cells in the space of their embeddings, coloured by what they are."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from blend_pl.probes.embeddings import CellEmbeddings
from blend_pl.report.figures.style import TRUTH, grid, save

TASKS = {"ei": "E/I", "subclass": "subclass"}
CLASSES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#262626")


def draw_embeddings(arms: Mapping[str, CellEmbeddings], path: Path) -> None:
    """Two principal components of each arm's embeddings; train cells are faint, test cells are bold.

    Args:
        arms: embeddings by the arm's name.
        path: the figure.
    """
    figure, axes = grid(len(TASKS), len(arms), height=2.1 * len(TASKS), sharex=False)
    for column, (name, cells) in enumerate(arms.items()):
        place = principal_components(cells.vectors)
        for row, task in enumerate(TASKS):
            _scatter(axes[row, column], place, getattr(cells, task), cells.side)
        axes[0, column].set_title(name, color=TRUTH)
    for row, (task, title) in enumerate(TASKS.items()):
        axes[row, 0].set_ylabel(title)
        names = sorted({name for cells in arms.values() for name in getattr(cells, task) if name})
        marks = [Line2D([], [], marker="o", linestyle="", color=c) for c in CLASSES[: len(names)]]
        axes[row, -1].legend(marks, names, loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1)
    save(figure, path)


def principal_components(vectors: np.ndarray) -> np.ndarray:
    """(C, 2) coordinates along the directions of largest variance, each of variance 1."""
    centred = vectors - vectors.mean(0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :2] * np.sign(scale[:2]) * np.sqrt(len(vectors))


def _scatter(axis: Axes, place: np.ndarray, names: np.ndarray, side: np.ndarray) -> None:
    for name, colour in zip(sorted({name for name in names if name}), CLASSES, strict=False):
        for bold in (False, True):
            shown = (names == name) & ((side == "test") == bold)
            size, alpha = (16, 0.9) if bold else (7, 0.25)
            axis.scatter(place[shown, 0], place[shown, 1], s=size, alpha=alpha, color=colour, linewidths=0)
    axis.set(xticks=[], yticks=[], xlim=(-3, 3), ylim=(-3, 3))
