"""Random sizes and weights of networks, for property tests."""

from typing import Any, TypeVar

import torch
from hypothesis import strategies as st
from torch import nn

from blend_pl.models import Dims

Model = TypeVar("Model", bound=nn.Module)


@st.composite
def any_dims(draw: Any, observed: tuple[int, int] = (1, 5), forward: int = 3, context: int = 3) -> Dims:
    """Draws the sizes of a session.

    Args:
        draw: draws from a strategy; passed by Hypothesis.
        observed: minimum and maximum number of observed bins.
        forward: maximum number of forward bins.
        context: maximum number of context channels.
    """
    channels, bins = draw(st.integers(1, 6)), draw(st.integers(*observed))
    n_heldout, n_forward, n_context = (draw(st.integers(0, maximum)) for maximum in (3, forward, context))
    return Dims(channels, channels + n_heldout, bins, bins + n_forward, n_context)


def behavior_of(dims: Dims, trials: int) -> torch.Tensor | None:
    """Returns random behavior (trials, T', D); None for a network without context."""
    return torch.randn(trials, dims.bins, dims.context) if dims.context else None


def shaken(model: Model, by: float = 0.05) -> Model:
    """Adds noise to all weights, so that none keeps a special initial value."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model
