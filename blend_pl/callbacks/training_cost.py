"""What training costs: parameters, time a step, memory."""

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
"""Bytes in which the system counts a process's memory."""


def count_parameters(system: nn.Module) -> int:
    """Number of trained parameters of a system, without what only a distillation needs."""
    named_parameters = system.named_parameters()
    return sum(p.numel() for name, p in named_parameters if p.requires_grad and not name.startswith(OBJECTIVE_PREFIX))


Timestamp = float | torch.cuda.Event


def record_time(device: torch.device) -> Timestamp:
    """Now; on a GPU, which the host runs ahead of, when the GPU will have done what it has been told so far."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def is_complete(timestamp: Timestamp) -> bool:
    """Whether a GPU has come so far."""
    return isinstance(timestamp, float) or timestamp.query()


def elapsed(start: Timestamp, end: Timestamp) -> float:
    """Seconds between two marks, which a GPU must have reached."""
    if isinstance(start, float):
        assert isinstance(end, float)
        return end - start
    assert not isinstance(end, float)
    return start.elapsed_time(end) / 1000


class TrainingCost(L.Callback):
    """Measures a training while it runs.

    Attributes:
        n_parameters: number of trained parameters of the system, without what only a distillation needs.
        step_seconds: of each step, from the batch's arrival to the updated weights; all are known once training has ended.
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
        # Marks of a whole training would be too many for a GPU to keep.
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
        """Parameters, median seconds a step, and peak bytes of the device or, on a CPU, of the process.

        None where no step was taken, as when a finished training is taken up again.
        """
        if not self.step_seconds:
            return None
        return {
            "parameters": self.n_parameters,
            "seconds_per_step": statistics.median(self.step_seconds),
            "peak_bytes": self.peak_bytes,
        }
