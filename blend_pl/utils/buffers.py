"""Networks that are tried before they are trained."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def preserve_buffers(*modules: nn.Module) -> Iterator[None]:
    """Puts buffers back as they were, for a trial is no step, which a network may count."""
    saved = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, saved_value in saved:
            buffer.copy_(saved_value)
