"""Preservation of module buffers."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def preserve_buffers(*modules: nn.Module) -> Iterator[None]:
    """Restores all buffers on exit, so that a dry run does not advance step counters."""
    saved = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, saved_value in saved:
            buffer.copy_(saved_value)
