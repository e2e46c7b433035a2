"""Ensembles of teachers."""

from collections.abc import Sequence
from typing import Protocol

import torch

from blend_pl.data.batch import Batch
from blend_pl.likelihoods import Likelihood
from blend_pl.models.base import Encoding


class TeacherEncoder(Protocol):
    """A frozen teacher."""

    likelihood: Likelihood

    def teach(self, batch: Batch) -> Encoding:
        """Encodes a batch with privileged input."""


class TeacherEnsemble:
    """Averages the predictions of several teachers for a batch with privileged input.

    Args:
        teachers: the teachers; the sequence may grow later.
    """

    def __init__(self, teachers: Sequence[TeacherEncoder]) -> None:
        self.teachers = teachers

    def __call__(self, batch: Batch) -> Encoding:
        """Returns the average encoding; see `average_encodings`."""
        return average_encodings([teacher.teach(batch) for teacher in self.teachers], self.teachers[0].likelihood)


def average_encodings(encodings: Sequence[Encoding], likelihood: Likelihood) -> Encoding:
    """Returns an encoding with the average prediction of several encodings.

    Args:
        encodings: one encoding per teacher, of the same trials; predictions (B, T', N).
        likelihood: defines the average of predictions.

    Returns:
        An encoding without features and latents, because those of different networks are not comparable. A single
        encoding is returned unchanged.
    """
    if len(encodings) == 1:
        return encodings[0]
    return Encoding(likelihood.average(torch.stack([encoding.prediction for encoding in encodings])))
