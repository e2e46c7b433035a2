"""The signals by which schedulers announce that a process must end soon."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Pre-emption and the end of a job's time, and what SLURM is often asked to send before that."""


@contextmanager
def handle_signals(
    callback: Callable[[int], Any], signals: Sequence[signal.Signals] = TERMINATION_SIGNALS
) -> Iterator[None]:
    """Calls `callback` with the number of each such signal, in place of what happened before.

    Outside of the main thread, where Python takes no signals, nothing changes.
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
