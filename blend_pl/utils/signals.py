"""Signals of schedulers that announce the end of a process."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""SIGTERM: preemption or the end of the time of a job. SIGUSR1: often requested from SLURM before that."""


@contextmanager
def handle_signals(
    callback: Callable[[int], Any], signals: Sequence[signal.Signals] = TERMINATION_SIGNALS
) -> Iterator[None]:
    """Handles signals by `callback`, which receives the number of the signal; restores the handlers on exit.

    Does nothing outside of the main thread, where Python cannot set handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous_handlers = {signum: signal.signal(signum, lambda signum, _: callback(signum)) for signum in signals}
    try:
        yield
    finally:
        for signum, previous_handler in previous_handlers.items():
            signal.signal(signum, previous_handler)
