"""Cost of training: number of parameters, time per step, and memory."""

import resource
import statistics
import sys
import time
from collections import deque
from typing import Any

import lightning as L
import torch
from torch import nn

from blend_pl.systems.base import OBJECTIVE_PREFIX

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes per unit of `ru_maxrss`."""


def count_parameters(system: nn.Module) -> int:
    """Returns the number of trained parameters of a system, without those of its objective."""
    named_parameters = system.named_parameters()
    return sum(p.numel() for name, p in named_parameters if p.requires_grad and not name.startswith(OBJECTIVE_PREFIX))


Timestamp = float | torch.cuda.Event


def record_time(device: torch.device) -> Timestamp:
    """Returns a timestamp: the wall clock on a CPU, a CUDA event on the current stream on a GPU."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def is_complete(timestamp: Timestamp) -> bool:
    """Whether the GPU has reached a timestamp."""
    return isinstance(timestamp, float) or timestamp.query()


def elapsed(start: Timestamp, end: Timestamp) -> float:
    """Returns the seconds between two timestamps that are complete."""
    if isinstance(start, float):
        assert isinstance(end, float)
        return end - start
    assert not isinstance(end, float)
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1000


class TrainingCost(L.Callback):
    """Measures the cost of training.

    Attributes:
        n_parameters: number of trained parameters of the system, without those of its objective.
        step_seconds: duration of each step, from the batch to the updated weights; complete after training.
    """

    def __init__(self) -> None:
        self.n_parameters = 0
        self.step_seconds: list[float] = []
        self._pending_steps: deque[tuple[Timestamp, Timestamp]] = deque()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.n_parameters = count_parameters(pl_module)
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._step_start = record_time(pl_module.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._pending_steps.append((self._step_start, record_time(pl_module.device)))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # CUDA events of all steps would take too much memory.
        self._collect()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        on_gpu = pl_module.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(pl_module.device)
        self._collect()
        self.peak_bytes = (
            torch.cuda.max_memory_allocated(pl_module.device)
            if on_gpu
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
        )

    def _collect(self) -> None:
        while self._pending_steps and is_complete(self._pending_steps[0][1]):
            self.step_seconds.append(elapsed(*self._pending_steps.popleft()))

    def summary(self) -> dict[str, float | int] | None:
        """Returns the number of parameters, the median seconds per step, and the peak bytes.

        Peak bytes are those of the GPU or, on a CPU, of the process. None if no step was taken, as when a finished
        training is resumed.
        """
        if not self.step_seconds:
            return None
        return {
            "parameters": self.n_parameters,
            "seconds_per_step": statistics.median(self.step_seconds),
            "peak_bytes": self.peak_bytes,
        }
