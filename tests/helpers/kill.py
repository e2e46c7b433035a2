"""Callbacks that interrupt training or evaluation."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L


class Interrupted(Exception):
    """Raised by `Kill` with `how="raise"`."""


class Kill(L.Callback):
    """Ends training after a batch, once: by a signal to this process, or by an exception.

    Args:
        epoch: epoch in which training ends.
        batch: batch of the epoch after which training ends.
        how: name of a signal, or "raise".
        mark: file that is created, so that a second training is not ended.
        rank: rank that is ended.
    """

    def __init__(self, epoch: int, batch: int, how: str, mark: str, rank: int = 0) -> None:
        self.at, self.how, self.mark, self.rank = (epoch, batch), how, Path(mark), rank

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_due = (trainer.current_epoch, batch_idx) == self.at and trainer.global_rank == self.rank
        if is_due and not self.mark.exists():
            self.mark.touch()
            if self.how == "raise":
                raise Interrupted
            os.kill(os.getpid(), signal.Signals[self.how])


class KillScoring(L.Callback):
    """Sends SIGTERM to this process after the first test batch, once.

    Args:
        mark: file that is created, so that a second training is not ended.
    """

    def __init__(self, mark: str) -> None:
        self.mark = Path(mark)

    def on_test_batch_end(self, *_: Any) -> None:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGTERM)
