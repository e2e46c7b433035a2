"""The signals by which schedulers announce that a process must end soon."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
"""Pre-emption and the end of a job's time, and what SLURM is often asked to send before that."""


@contextmanager
def on_stopping(handle: Callable[[int], Any], numbers: Sequence[signal.Signals] = STOPPING) -> Iterator[None]:
    """Calls `handle` with the number of each such signal, in place of what happened before.

    Outside of the main thread, where Python takes no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda number, _: handle(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
