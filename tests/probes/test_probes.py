import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from blend_pl.probes import probe_scores
from blend_pl.probes.probes import PROBES

CLASSES = np.array(["EC", "Pvalb", "Vip"])


def draw(n: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around a centre for each class."""
    rng = np.random.default_rng(seed)
    number = rng.choice(3, n, p=(0.6, 0.2, 0.2))
    return np.eye(3)[number] * 4 + spread * rng.standard_normal((n, 3)), CLASSES[number]


def scores(spread: float, seed: int = 0) -> dict[str, float]:
    (train, train_classes), (test, test_classes) = draw(300, spread, 0), draw(200, spread, 1)
    return probe_scores((train, test), (train_classes, test_classes), seed)


@pytest.mark.parametrize("probe", PROBES)
def test_classes_that_lie_apart_are_read(probe: str) -> None:
    found = scores(0.3)
    assert [found[f"{probe}_{name}"] for name in ("top1", "balanced", "f1")] == [1.0] * 3


@pytest.mark.parametrize("probe", PROBES)
def test_noise_says_nothing(probe: str) -> None:
    found = scores(200.0)
    assert found[f"{probe}_balanced"] == pytest.approx(1 / 3, abs=0.1)
    assert found[f"{probe}_top1"] <= found["majority"] + 0.05


def test_the_majority_is_that_of_the_training_cells() -> None:
    (train, _), (test, _) = draw(100, 1.0, 0), draw(10, 1.0, 1)
    found = probe_scores((train, test), (np.array(["a"] * 60 + ["b"] * 40), np.array(["b"] * 7 + ["a"] * 3)), 0)
    assert found["majority"] == pytest.approx(0.3)


def test_scores_are_those_of_the_literature() -> None:
    """A nearest-neighbour probe whose answers can be written down."""
    train = np.repeat(np.eye(3), 5, axis=0)
    test, true = np.eye(3)[[0, 0, 0, 1, 2, 2]], CLASSES[[0, 0, 1, 1, 2, 0]]
    found = probe_scores((train, test), (np.repeat(CLASSES, 5), true), 0)
    answers = CLASSES[[0, 0, 0, 1, 2, 2]]
    assert found["knn_top1"] == pytest.approx(4 / 6)
    assert found["knn_balanced"] == pytest.approx(balanced_accuracy_score(true, answers))
    assert found["knn_f1"] == pytest.approx(f1_score(true, answers, average="macro"))


def test_a_seed_gives_the_same_scores() -> None:
    assert scores(3.0, seed=1) == scores(3.0, seed=1)
    assert scores(3.0, seed=1)["mlp_top1"] != pytest.approx(scores(3.0, seed=2)["mlp_top1"], abs=0)


def test_without_test_cells_or_classes_there_is_nothing_to_score() -> None:
    vectors, classes = draw(30, 1.0, 0)
    assert probe_scores((vectors, vectors[:0]), (classes, classes[:0]), 0) == {}
    assert probe_scores((vectors, vectors), (np.full(30, "a"), classes), 0) == {}


def test_a_class_that_only_test_cells_have_counts_as_missed() -> None:
    vectors, classes = draw(200, 0.3, 0)
    known = classes != "Vip"
    found = probe_scores((vectors[known], vectors), (classes[known], classes), 0)
    assert found["linear_balanced"] == pytest.approx(2 / 3, abs=0.01)
