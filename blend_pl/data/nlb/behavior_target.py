"""The quantity that is decoded: velocity, speed or position, derived from the series of the file."""

import numpy as np

from blend_pl.data.nlb.spec import BehaviorSpec
from blend_pl.data.resample import smooth_gaussian
from blend_pl.errors import ConfigError

_EDGE_MS = 250
"""Resampling pads a recording with zeros, which affects bins at its ends; a derivative there would be an artifact."""


def check_target(behavior: BehaviorSpec) -> None:
    """Checks that the target can be derived from the series.

    Raises:
        ConfigError: there is no series, the series is an angle, or a position would be derived from a velocity.
    """
    if behavior.target is None or behavior.target == behavior.quantity:
        return
    if not behavior.series_names:
        raise ConfigError(f"behavior.target is {behavior.target}, and behavior.series names no series; set it")
    if behavior.target == "position":
        raise ConfigError(
            "behavior.target is position, and the series is a velocity; set behavior.series to a position and "
            "behavior.quantity: position"
        )
    if behavior.period is not None:
        raise ConfigError(f"behavior.target is {behavior.target}, and the series is an angle; set target: null")


def derive_target(binned: np.ndarray, behavior: BehaviorSpec, bin_ms: int) -> np.ndarray:
    """Derives the target from the binned series.

    A velocity is the central difference of the position. It is smoothed with a Gaussian kernel, because differentiation
    amplifies the noise of tracking. A speed is the norm of the velocity.

    Args:
        binned: (bins, D) of the whole recording, NaN where missing.
        behavior: quantity of the series, target, and width of the kernel.
        bin_ms: bin width.

    Returns:
        (bins, D), per second for a velocity from a position; (bins, 1) for a speed.
    """
    target = behavior.target or behavior.quantity
    if target == behavior.quantity:
        return binned
    velocity = binned
    if behavior.quantity == "position":
        position = binned.copy()
        n_edge = -(-_EDGE_MS // bin_ms) if bin_ms > 1 else 0
        position[:n_edge], position[len(position) - n_edge :] = np.nan, np.nan
        velocity = smooth_gaussian(np.gradient(position, bin_ms / 1000, axis=0), behavior.smoothing_ms / bin_ms)
    return np.linalg.norm(velocity, axis=1, keepdims=True) if target == "speed" else velocity
