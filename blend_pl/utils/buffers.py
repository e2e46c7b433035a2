"""Networks that are tried before they are trained."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def uncounted(*modules: nn.Module) -> Iterator[None]:
    """Puts buffers back as they were, for a trial is no step, which a network may count."""
    before = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
