"""Several teachers as one."""

from collections.abc import Sequence

import torch

from blend_pl.likelihoods import Likelihood
from blend_pl.models.contract import Encoding


def average(encodings: Sequence[Encoding], likelihood: Likelihood) -> Encoding:
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
