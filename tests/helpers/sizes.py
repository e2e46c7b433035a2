"""Networks of any size, with weights of any value."""

from typing import Any, TypeVar

import torch
from hypothesis import strategies as st
from torch import nn

from blend_pl.models import Dims

Model = TypeVar("Model", bound=nn.Module)


@st.composite
def any_dims(draw: Any, observed: tuple[int, int] = (1, 5), forward: int = 3, context: int = 3) -> Dims:
    """Sizes of a session: fewest and most observed bins, most forward bins, and the widest context."""
    channels, bins = draw(st.integers(1, 6)), draw(st.integers(*observed))
    heldout, ahead, wide = (draw(st.integers(0, most)) for most in (3, forward, context))
    return Dims(channels, channels + heldout, bins, bins + ahead, wide)


def behavior_of(dims: Dims, trials: int) -> torch.Tensor | None:
    """Random behaviour (trials, T', D), where a network of these sizes takes some."""
    return torch.randn(trials, dims.bins, dims.context) if dims.context else None


def shaken(model: Model, by: float = 0.05) -> Model:
    """The same model with no weight left at a special value."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model
