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

from blend_pl.systems.student import OBJECTIVE

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts a process's memory."""


def parameters_of(system: nn.Module) -> int:
    """Number of trained parameters of a system, without what only a distillation needs."""
    named = system.named_parameters()
    return sum(p.numel() for name, p in named if p.requires_grad and not name.startswith(OBJECTIVE))


Mark = float | torch.cuda.Event


def mark(device: torch.device) -> Mark:
    """Now; on a GPU, which the host runs ahead of, when the GPU will have done what it has been told so far."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def is_reached(when: Mark) -> bool:
    """Whether a GPU has come so far."""
    return isinstance(when, float) or when.query()


def seconds_between(first: Mark, last: Mark) -> float:
    """Seconds between two marks, which a GPU must have reached."""
    if isinstance(first, float):
        assert isinstance(last, float)
        return last - first
    assert not isinstance(last, float)
    return first.elapsed_time(last) / 1000


class Cost(L.Callback):
    """Measures a training while it runs.

    Attributes:
        parameters: number of trained parameters of the system, without what only a distillation needs.
        seconds: of each step, from the batch's arrival to the updated weights; all are known once training has ended.
    """

    def __init__(self) -> None:
        self.parameters = 0
        self.seconds: list[float] = []
        self._steps: deque[tuple[Mark, Mark]] = deque()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.parameters = parameters_of(pl_module)
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._began = mark(pl_module.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._steps.append((self._began, mark(pl_module.device)))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Marks of a whole training would be too many for a GPU to keep.
        self._settle()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        on_gpu = pl_module.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(pl_module.device)
        self._settle()
        self.peak_bytes = (
            torch.cuda.max_memory_allocated(pl_module.device)
            if on_gpu
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
        )

    def _settle(self) -> None:
        while self._steps and is_reached(self._steps[0][1]):
            self.seconds.append(seconds_between(*self._steps.popleft()))

    def summary(self) -> dict[str, float | int] | None:
        """Parameters, median seconds a step, and peak bytes of the device or, on a CPU, of the process.

        None where no step was taken, as when a finished training is taken up again.
        """
        if not self.seconds:
            return None
        return {
            "parameters": self.parameters,
            "seconds_per_step": statistics.median(self.seconds),
            "peak_bytes": self.peak_bytes,
        }
