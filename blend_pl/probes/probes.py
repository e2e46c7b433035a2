"""Probes of cell classes from embeddings."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

PROBES = ("linear", "knn", "mlp")


def probe_scores(
    vectors: tuple[np.ndarray, np.ndarray], classes: tuple[np.ndarray, np.ndarray], seed: int
) -> dict[str, float]:
    """Fits each probe on training cells and scores it on test cells.

    Args:
        vectors: (n, size) embeddings of the training and of the test cells.
        classes: (n,) str names of their classes.
        seed: seed of the probes.

    Returns:
        Accuracy ("PROBE_top1"), mean recall ("PROBE_balanced") and mean F1 ("PROBE_f1") over the classes of the test
        cells for each probe, and the accuracy of the most frequent training class ("majority"). Empty without test
        cells or with only one training class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train_labels, test_labels = classes
    if not len(test_labels) or len(np.unique(train_labels)) < 2:
        return {}
    unique_labels, label_counts = np.unique(train_labels, return_counts=True)
    scores = {"majority": float((test_labels == unique_labels[label_counts.argmax()]).mean())}
    for name in PROBES:
        probe = make_pipeline(StandardScaler(), _make_probe(name, len(train_labels), seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            predicted = probe.fit(vectors[0], train_labels).predict(vectors[1])
        with warnings.catch_warnings():
            # Predictions of classes without test cells lower the recall of the others; the warning is not useful.
            warnings.simplefilter("ignore", UserWarning)
            scores[f"{name}_top1"] = float(accuracy_score(test_labels, predicted))
            scores[f"{name}_balanced"] = float(balanced_accuracy_score(test_labels, predicted))
            scores[f"{name}_f1"] = float(
                f1_score(test_labels, predicted, labels=np.unique(test_labels), average="macro", zero_division=0.0)
            )
    return scores


def _make_probe(name: str, n_train: int, seed: int) -> "ClassifierMixin":
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier

    if name == "knn":
        return KNeighborsClassifier(min(5, n_train))
    if name == "mlp":
        return MLPClassifier((64,), alpha=1.0, max_iter=300, random_state=seed)
    return LogisticRegression(C=0.1, max_iter=1000)
