"""How long a bin takes when programs are run as in an experiment, on one core."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blend_pl.export.program import onnx_session
from blend_pl.export.streaming import Step

WARM_UP = 200
"""Calls before the clock starts."""


@dataclass(frozen=True)
class Latency:
    """Time of single calls, in milliseconds.

    Attributes:
        steps: calls that were timed.
        median: of the time by the clock on the wall.
        p99: 99 of 100 calls take no longer.
        max: the longest.
        processor_p99: the same as `p99`, of the processor's time: what other work on the core does not add to.
    """

    steps: int
    median: float
    p99: float
    max: float
    processor_p99: float


def latency(call: Callable[[int], object], steps: int) -> Latency:
    """Times calls one by one, on this thread.

    Args:
        call: takes the number of the call.
        steps: calls to time, after `WARM_UP` that are not.
    """
    wall, processor = np.empty(WARM_UP + steps), np.empty(WARM_UP + steps)
    for number in range(WARM_UP + steps):
        start, start_processor = time.perf_counter(), time.thread_time()
        call(number)
        processor[number], wall[number] = time.thread_time() - start_processor, time.perf_counter() - start
    wall, processor = 1e3 * wall[WARM_UP:], 1e3 * processor[WARM_UP:]
    p99, processor_p99 = (float(np.quantile(taken, 0.99)) for taken in (wall, processor))
    return Latency(steps, float(np.median(wall)), p99, float(wall.max()), processor_p99)


def onnx_latency(path: Path, step: Step, spikes: Tensor, steps: int) -> Latency:
    """Times a bin in onnxruntime, trials one after another.

    Args:
        path: the step as ONNX.
        step: the step, which knows how a trial begins.
        spikes: (T', C) counts of a trial.
        steps: bins to time.
    """
    session, counts = onnx_session(path), spikes[:, None].numpy()
    start = [part.numpy() for part in step.start()]
    names, state = [port.name for port in session.get_inputs()], start

    def call(number: int) -> None:
        nonlocal state
        if number % len(counts) == 0:
            state = start
        _, *state = session.run(None, dict(zip(names, [counts[number % len(counts)], *state], strict=True)))

    return latency(call, steps)


def torch_latency(step: Step, spikes: Tensor, steps: int) -> Latency:
    """Times a bin in torch, see `onnx_latency`."""
    counts, start = spikes[:, None], step.start()
    state = start

    def call(number: int) -> None:
        nonlocal state
        if number % len(counts) == 0:
            state = start
        _, *state = step(counts[number % len(counts)], *state)

    with _one_thread(), torch.inference_mode():
        return latency(call, steps)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
