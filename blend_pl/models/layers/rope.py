"""Rotary positions (Su et al., 2021, RoFormer, section 3.2): attention that depends on how far apart two bins are."""

import torch
from torch import Tensor


def rotary_cos_sin(times: Tensor, head_dim: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of every pair of channels at every time.

    Args:
        times: (...) bins.
        head_dim: channels of a head, even.
        base: the longest wavelength, over 2 pi, in bins.

    Returns:
        Two (..., width / 2) tensors.
    """
    frequencies = base ** (-torch.arange(0, head_dim, 2, device=times.device) / head_dim)
    angles = times[..., None] * frequencies
    return angles.cos(), angles.sin()


def apply_rotary(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turns pairs of channels, the first half with the second: (..., width), with angles that broadcast to it."""
    first, second = vectors.chunk(2, -1)
    rotated = torch.addcmul(first * cosine, second, sine, value=-1), torch.addcmul(second * cosine, first, sine)
    return torch.cat(rotated, -1)
