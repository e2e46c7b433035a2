"""Ends a training after its first step, and says what it took to get there."""

import os
import time
from typing import Any

import lightning as L


class FirstStep(L.Callback):
    """Prints seconds since the process began: of the processor, and by the clock on the wall."""

    def on_train_batch_end(self, *_: Any) -> None:
        wall = time.clock_gettime(time.CLOCK_BOOTTIME) - _began()
        print(f"first step after {time.process_time():.3f} {wall:.3f}", flush=True)
        os._exit(0)


def _began() -> float:
    """When this process started, in seconds since the machine did."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK")
