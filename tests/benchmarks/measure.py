"""Time and peak memory of a function, in a process of its own, so that one measurement does not hide another."""

import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection


@dataclass(frozen=True)
class Cost:
    """What a call cost.

    Attributes:
        seconds: by the clock on the wall.
        processor: seconds of all cores, of the process and its children; other work on the machine matters less to it.
        megabytes: what the process grew by at its peak.
    """

    seconds: float
    processor: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.megabytes:.0f} MB"


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _processor() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _call(function: Callable[[], object], pipe: Connection) -> None:
    memory, processor, start = _peak_mb(), _processor(), time.perf_counter()
    function()
    pipe.send(Cost(time.perf_counter() - start, _processor() - processor, _peak_mb() - memory))


def cost(function: Callable[[], object]) -> Cost:
    """Runs a function in a forked process and returns what it cost."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_call, args=(function, send))
    process.start()
    send.close()
    measured: Cost = receive.recv()
    process.join()
    return measured
