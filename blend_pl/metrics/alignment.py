"""How alike two sets of latents of the same bins are."""

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment (Kornblith et al., 2019, equation 3).

    Args:
        first: (rows, H) latents.
        second: (rows, H') latents of the same rows.

    Returns:
        1 for latents that agree up to a rotation and a scale, 0 for uncorrelated ones; nan if one is constant.
    """
    a, b = ((latents.double() - latents.double().mean(0)) for latents in (first, second))
    cross = (a.mT @ b).square().sum()
    return float(cross / ((a.mT @ a).norm() * (b.mT @ b).norm()))


def retrieval_accuracy(queries: Tensor, keys: Tensor, stride: int = 10) -> float:
    """How often the key that is most like a query, by their angle, is the one of the same row.

    Args:
        queries: (rows, H) latents of a student.
        keys: (rows, H) latents of its teacher.
        stride: every so many rows are taken, for neighbouring bins are alike.

    Returns:
        A share; by chance one over the number of rows taken.
    """
    queries, keys = (F.normalize(latents[::stride].double(), dim=-1) for latents in (queries, keys))
    nearest = (queries @ keys.mT).argmax(1)
    return float((nearest == torch.arange(len(nearest), device=nearest.device)).double().mean())
