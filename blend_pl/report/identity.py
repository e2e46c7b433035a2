"""Figure of cell embeddings, colored by cell type."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from blend_pl.probes.embeddings import CellEmbeddings
from blend_pl.report.figures.style import TEXT_COLOR, subplots

TASK_LABELS = {"ei": "E/I", "subclass": "subclass"}
CLASS_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#262626")


def draw_embeddings(variants: Mapping[str, CellEmbeddings]) -> Figure:
    """Draws two principal components of the embeddings of each variant; train cells are faint, test cells are bold.

    Args:
        variants: embeddings by the name of the variant.
    """
    figure, axes = subplots(len(TASK_LABELS), len(variants), height=2.1 * len(TASK_LABELS), sharex=False)
    for column, (name, cells) in enumerate(variants.items()):
        coordinates = principal_components(cells.vectors)
        for row, task in enumerate(TASK_LABELS):
            _scatter(axes[row, column], coordinates, getattr(cells, task), cells.split)
        axes[0, column].set_title(name, color=TEXT_COLOR)
    for row, (task, title) in enumerate(TASK_LABELS.items()):
        axes[row, 0].set_ylabel(title)
        names = sorted({name for cells in variants.values() for name in getattr(cells, task) if name})
        handles = [Line2D([], [], marker="o", linestyle="", color=c) for c in CLASS_COLORS[: len(names)]]
        axes[row, -1].legend(handles, names, loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1)
    return figure


def principal_components(vectors: np.ndarray) -> np.ndarray:
    """Returns (C, 2) coordinates along the two directions of largest variance, each scaled to variance 1."""
    centered = vectors - vectors.mean(0)
    left_vectors, singular_values, _ = np.linalg.svd(centered, full_matrices=False)
    coordinates: np.ndarray = left_vectors[:, :2] * np.sign(singular_values[:2]) * np.sqrt(len(vectors))
    return coordinates


def _scatter(ax: Axes, coordinates: np.ndarray, classes: np.ndarray, split: np.ndarray) -> None:
    for class_name, color in zip(
        sorted({class_name for class_name in classes if class_name}), CLASS_COLORS, strict=False
    ):
        for is_test in (False, True):
            mask = (classes == class_name) & ((split == "test") == is_test)
            size, alpha = (16, 0.9) if is_test else (7, 0.25)
            ax.scatter(coordinates[mask, 0], coordinates[mask, 1], s=size, alpha=alpha, color=color, linewidths=0)
    ax.set(xticks=[], yticks=[], xlim=(-3, 3), ylim=(-3, 3))
