"""Measures of time and memory: of a function in a child process, and of calls on the device."""

import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Cost:
    """Cost of a call.

    Attributes:
        seconds: wall-clock time in seconds.
        processor: CPU time in seconds, of the process and its children; less affected by other work on the machine.
        megabytes: growth of the process's peak memory in MB.
    """

    seconds: float
    processor: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.megabytes:.0f} MB"


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _processor() -> float:
    usages = (resource.getrusage(scope) for scope in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _call(function: Callable[[], object], pipe: Connection) -> None:
    memory, processor, start = _peak_mb(), _processor(), time.perf_counter()
    function()
    pipe.send(Cost(time.perf_counter() - start, _processor() - processor, _peak_mb() - memory))


def measure_cost(function: Callable[[], object]) -> Cost:
    """Runs a function in a forked process and returns its cost."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_call, args=(function, send))
    process.start()
    send.close()
    measured: Cost = receive.recv()
    process.join()
    return measured


def seconds(function: Callable[[], object], times: int = 3) -> float:
    """Returns the seconds of the fastest call after a warm-up call; CPU time on a CPU, wall-clock time on a GPU."""
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time
    durations = []
    for _ in range(times + 1):
        start = clock()
        function()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        durations.append(clock() - start)
    return min(durations[1:])
