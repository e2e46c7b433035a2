"""Several teachers as one."""

from collections.abc import Sequence
from typing import Protocol

import torch

from blend_pl.data.batch import Batch
from blend_pl.likelihoods import Likelihood
from blend_pl.models.base import Encoding


class TeacherEncoder(Protocol):
    """What teaches."""

    likelihood: Likelihood

    def encode(self, batch: Batch) -> Encoding:
        """What it makes of a batch with privileged input."""


class TeacherEnsemble:
    """What several teachers together make of a batch with privileged input.

    Args:
        teachers: the teachers; some may be added later.
    """

    def __init__(self, teachers: Sequence[TeacherEncoder]) -> None:
        self.teachers = teachers

    def __call__(self, batch: Batch) -> Encoding:
        """The mean of their predictions; see `average`."""
        return average_encodings([teacher.encode(batch) for teacher in self.teachers], self.teachers[0].likelihood)


def average_encodings(encodings: Sequence[Encoding], likelihood: Likelihood) -> Encoding:
    """The encoding that predicts the mean of what several encodings predict.

    Args:
        encodings: one for each teacher, of the same trials; predictions (B, T', N).
        likelihood: says what a prediction means.

    Returns:
        Without features and latents: those of different networks have nothing in common. A single encoding is returned
        as it is.
    """
    if len(encodings) == 1:
        return encodings[0]
    return Encoding(likelihood.average(torch.stack([encoding.prediction for encoding in encodings])))
