"""Latency of single bins on one CPU core."""

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
"""Calls before timing starts."""


@dataclass(frozen=True)
class Latency:
    """Duration of single calls, in milliseconds.

    Attributes:
        steps: number of timed calls.
        median: median wall time.
        p99: 99th percentile of the wall time.
        max: longest wall time.
        processor_p99: 99th percentile of the CPU time, which excludes other work on the core.
    """

    steps: int
    median: float
    p99: float
    max: float
    processor_p99: float


def measure_latency(call: Callable[[int], object], n_calls: int) -> Latency:
    """Times single calls on the current thread.

    Args:
        call: function of the index of the call.
        n_calls: number of timed calls, which follow `N_WARMUP_CALLS` untimed calls.
    """
    wall, cpu = np.empty(N_WARMUP_CALLS + n_calls), np.empty(N_WARMUP_CALLS + n_calls)
    for index in range(N_WARMUP_CALLS + n_calls):
        start, start_cpu = time.perf_counter(), time.thread_time()
        call(index)
        cpu[index], wall[index] = time.thread_time() - start_cpu, time.perf_counter() - start
    wall, cpu = 1e3 * wall[N_WARMUP_CALLS:], 1e3 * cpu[N_WARMUP_CALLS:]
    p99, cpu_p99 = (float(np.quantile(times, 0.99)) for times in (wall, cpu))
    return Latency(n_calls, float(np.median(wall)), p99, float(wall.max()), cpu_p99)


def measure_onnx_latency(path: Path, step: StreamingNDT, spikes: Tensor, n_timed_bins: int) -> Latency:
    """Times single bins of consecutive trials in onnxruntime.

    Args:
        path: ONNX file of the step.
        step: the exported module, which provides the initial state.
        spikes: (T', C) counts of a trial.
        n_timed_bins: number of timed bins.
    """
    session, counts = create_onnx_session(path), spikes[:, None].numpy()
    initial_state = [tensor.numpy() for tensor in step.initial_state()]
    names, state = [input_spec.name for input_spec in session.get_inputs()], initial_state

    def call(index: int) -> None:
        nonlocal state
        if index % len(counts) == 0:
            state = initial_state
        _, *state = session.run(None, dict(zip(names, [counts[index % len(counts)], *state], strict=True)))

    return measure_latency(call, n_timed_bins)


def measure_torch_latency(step: StreamingNDT, spikes: Tensor, n_timed_bins: int) -> Latency:
    """Times single bins in torch; see `measure_onnx_latency`."""
    counts, initial_state = spikes[:, None], step.initial_state()
    state = initial_state

    def call(index: int) -> None:
        nonlocal state
        if index % len(counts) == 0:
            state = initial_state
        _, *state = step(counts[index % len(counts)], *state)

    with _one_thread(), torch.inference_mode():
        return measure_latency(call, n_timed_bins)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
