"""Directions of movements and their colors."""

import math

import torch
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor

from blend_pl.prediction import Prediction

ANGLE_CMAP = LinearSegmentedColormap.from_list(
    "angles", ("#3B4CC0", "#2A9DB0", "#3FA34D", "#D9A521", "#D1495B", "#8E44AD", "#3B4CC0")
)
"""Cyclic colormap of directions."""


def true_velocity(prediction: Prediction) -> Tensor | None:
    """Returns the (evaluation trials, T, Y) velocity; None for a session without velocity."""
    return None if prediction.velocity is None else prediction.session.velocity.double()


def trial_angles(prediction: Prediction) -> Tensor:
    """Returns the (trials,) direction of the mean velocity over a condition's trials in radians; 0 if unknown."""
    session, velocity = prediction.session, true_velocity(prediction)
    if velocity is None or velocity.shape[2] < 2:
        return torch.zeros(len(session), dtype=torch.float64)
    mean = velocity[..., :2].nanmean(1).nan_to_num()
    for condition in session.condition[session.condition >= 0].unique():
        in_condition = session.condition == condition
        mean[in_condition] = mean[in_condition].mean(0)
    return torch.atan2(mean[:, 1], mean[:, 0])


def condition_angles(prediction: Prediction) -> Tensor:
    """Returns (conditions,) directions in radians; evenly spaced over the circle if no movement is known."""
    session, angles = prediction.session, trial_angles(prediction)
    if not angles.any():
        return torch.linspace(-math.pi, math.pi, len(session.psth) + 1, dtype=torch.float64)[:-1]
    result = torch.zeros(len(session.psth), dtype=torch.float64)
    result[session.condition[session.condition >= 0]] = angles[session.condition >= 0]
    return result


def angle_color(angle: Tensor) -> tuple[float, float, float, float]:
    """Returns the RGBA color of a direction in radians."""
    return ANGLE_CMAP(float(angle) / (2 * math.pi) % 1.0)
