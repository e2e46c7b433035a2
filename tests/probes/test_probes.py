"""Probes of cell classes."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from blend_pl.probes import probe_scores
from blend_pl.probes.probes import PROBES

CLASSES = np.array(["EC", "Pvalb", "Vip"])


def draw(n: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns embeddings around a center for each class."""
    rng = np.random.default_rng(seed)
    class_index = rng.choice(3, n, p=(0.6, 0.2, 0.2))
    return np.eye(3)[class_index] * 4 + spread * rng.standard_normal((n, 3)), CLASSES[class_index]


def scores(spread: float, seed: int = 0) -> dict[str, float]:
    (train, train_classes), (test, test_classes) = draw(300, spread, 0), draw(200, spread, 1)
    return probe_scores((train, test), (train_classes, test_classes), seed)


@pytest.mark.parametrize("probe", PROBES)
def test_separated_classes_are_predicted(probe: str) -> None:
    values = scores(0.3)
    assert [values[f"{probe}_{name}"] for name in ("top1", "balanced", "f1")] == [1.0] * 3


@pytest.mark.parametrize("probe", PROBES)
def test_noise_is_at_chance_level(probe: str) -> None:
    values = scores(200.0)
    assert values[f"{probe}_balanced"] == pytest.approx(1 / 3, abs=0.1)
    assert values[f"{probe}_top1"] <= values["majority"] + 0.05


def test_majority_is_that_of_the_training_cells() -> None:
    (train, _), (test, _) = draw(100, 1.0, 0), draw(10, 1.0, 1)
    values = probe_scores((train, test), (np.array(["a"] * 60 + ["b"] * 40), np.array(["b"] * 7 + ["a"] * 3)), 0)
    assert values["majority"] == pytest.approx(0.3)


def test_scores_equal_those_of_scikit_learn() -> None:
    """Uses a nearest-neighbor probe with known predictions."""
    train = np.repeat(np.eye(3), 5, axis=0)
    test, true = np.eye(3)[[0, 0, 0, 1, 2, 2]], CLASSES[[0, 0, 1, 1, 2, 0]]
    values = probe_scores((train, test), (np.repeat(CLASSES, 5), true), 0)
    predictions = CLASSES[[0, 0, 0, 1, 2, 2]]
    assert values["knn_top1"] == pytest.approx(4 / 6)
    assert values["knn_balanced"] == pytest.approx(balanced_accuracy_score(true, predictions))
    assert values["knn_f1"] == pytest.approx(f1_score(true, predictions, average="macro"))


def test_scores_are_reproducible() -> None:
    assert scores(3.0, seed=1) == scores(3.0, seed=1)
    assert scores(3.0, seed=1)["mlp_top1"] != pytest.approx(scores(3.0, seed=2)["mlp_top1"], abs=0)


def test_no_scores_without_test_cells_or_classes() -> None:
    vectors, classes = draw(30, 1.0, 0)
    assert probe_scores((vectors, vectors[:0]), (classes, classes[:0]), 0) == {}
    assert probe_scores((vectors, vectors), (np.full(30, "a"), classes), 0) == {}


def test_class_without_training_cells_counts_as_missed() -> None:
    vectors, classes = draw(200, 0.3, 0)
    trained = classes != "Vip"
    values = probe_scores((vectors[trained], vectors), (classes[trained], classes), 0)
    assert values["linear_balanced"] == pytest.approx(2 / 3, abs=0.01)
