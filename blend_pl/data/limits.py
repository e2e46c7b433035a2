"""Least and largest value of recorded data."""

import numpy as np

_FIRST_VALUES = 1000
_CONSTANT_RTOL = float(np.finfo(np.float32).eps)


def is_constant(values: np.ndarray) -> bool:
    """Whether finite values are all equal up to the rounding of float32; False without any."""
    # The first values decide for nearly all signals.
    for part in (values[:_FIRST_VALUES], values):
        limits = finite_limits(part)
        if limits is not None and limits[1] - limits[0] > _CONSTANT_RTOL * max(map(abs, limits)):
            return False
    return limits is not None


def finite_limits(values: np.ndarray) -> tuple[float, float] | None:
    """Returns the least and the largest of the finite values; None without any."""
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    return finite_limits(values[np.isfinite(values)])
