"""Rotary position embeddings (RoFormer, Su et al., 2021, section 3.2): attention depends on relative time."""

import torch
from torch import Tensor


def rotary_cos_sin(times: Tensor, head_dim: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Returns the cosine and sine of the rotation angles.

    Args:
        times: (...) times in bins.
        head_dim: number of channels of a head, even.
        base: upper bound of the wavelengths divided by 2 pi, in bins.

    Returns:
        Two (..., head_dim / 2) tensors.
    """
    frequencies = base ** (-torch.arange(0, head_dim, 2, device=times.device) / head_dim)
    angles = times[..., None] * frequencies
    return angles.cos(), angles.sin()


def apply_rotary(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotates pairs of channels of (..., head_dim), each of one channel of the first half and one of the second."""
    first, second = vectors.chunk(2, -1)
    rotated = torch.addcmul(first * cosine, second, sine, value=-1), torch.addcmul(second * cosine, first, sine)
    return torch.cat(rotated, -1)
