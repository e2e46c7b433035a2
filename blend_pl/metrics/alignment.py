"""Similarity of two sets of latents of the same bins."""

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Returns the linear centered kernel alignment (Kornblith et al., 2019, equation 3).

    Args:
        first: (rows, H) latents.
        second: (rows, H') latents of the same rows.

    Returns:
        1 for latents that are equal up to a rotation and a scale, 0 for uncorrelated latents; nan if one is constant.
    """
    a, b = ((latents.double() - latents.double().mean(0)) for latents in (first, second))
    cross = (a.mT @ b).square().sum()
    return float(cross / ((a.mT @ a).norm() * (b.mT @ b).norm()))


def retrieval_accuracy(queries: Tensor, keys: Tensor, stride: int = 10) -> float:
    """Returns how often the nearest key of a query by cosine similarity is the key of the same row.

    Args:
        queries: (rows, H) latents of a student.
        keys: (rows, H) latents of its teacher.
        stride: every `stride`-th row is used, because neighboring bins are similar.

    Returns:
        A fraction; chance level is one over the number of used rows.
    """
    queries, keys = (F.normalize(latents[::stride].double(), dim=-1) for latents in (queries, keys))
    nearest = (queries @ keys.mT).argmax(1)
    return float((nearest == torch.arange(len(nearest), device=nearest.device)).double().mean())
