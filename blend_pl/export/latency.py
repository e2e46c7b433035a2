"""How long a bin takes when programs are run as in an experiment, on one core."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blend_pl.export.program import create_onnx_session
from blend_pl.export.streaming import StreamingNDT

N_WARMUP_CALLS = 200
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


def measure_latency(call: Callable[[int], object], steps: int) -> Latency:
    """Times calls one by one, on this thread.

    Args:
        call: takes the number of the call.
        steps: calls to time, after `WARM_UP` that are not.
    """
    wall, cpu = np.empty(N_WARMUP_CALLS + steps), np.empty(N_WARMUP_CALLS + steps)
    for index in range(N_WARMUP_CALLS + steps):
        start, start_cpu = time.perf_counter(), time.thread_time()
        call(index)
        cpu[index], wall[index] = time.thread_time() - start_cpu, time.perf_counter() - start
    wall, cpu = 1e3 * wall[N_WARMUP_CALLS:], 1e3 * cpu[N_WARMUP_CALLS:]
    p99, cpu_p99 = (float(np.quantile(times, 0.99)) for times in (wall, cpu))
    return Latency(steps, float(np.median(wall)), p99, float(wall.max()), cpu_p99)


def measure_onnx_latency(path: Path, step: StreamingNDT, spikes: Tensor, steps: int) -> Latency:
    """Times a bin in onnxruntime, trials one after another.

    Args:
        path: the step as ONNX.
        step: the step, which knows how a trial begins.
        spikes: (T', C) counts of a trial.
        steps: bins to time.
    """
    session, counts = create_onnx_session(path), spikes[:, None].numpy()
    initial_state = [tensor.numpy() for tensor in step.initial_state()]
    names, state = [input_spec.name for input_spec in session.get_inputs()], initial_state

    def call(index: int) -> None:
        nonlocal state
        if index % len(counts) == 0:
            state = initial_state
        _, *state = session.run(None, dict(zip(names, [counts[index % len(counts)], *state], strict=True)))

    return measure_latency(call, steps)


def measure_torch_latency(step: StreamingNDT, spikes: Tensor, steps: int) -> Latency:
    """Times a bin in torch, see `measure_onnx_latency`."""
    counts, initial_state = spikes[:, None], step.initial_state()
    state = initial_state

    def call(index: int) -> None:
        nonlocal state
        if index % len(counts) == 0:
            state = initial_state
        _, *state = step(counts[index % len(counts)], *state)

    with _one_thread(), torch.inference_mode():
        return measure_latency(call, steps)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
