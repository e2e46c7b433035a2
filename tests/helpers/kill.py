"""A callback that ends training the hard way."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L


class Interrupted(Exception):
    """What `Kill` raises when it is to send no signal."""


class Kill(L.Callback):
    """Ends training after a batch, once: by a signal to this process, or by an exception.

    Args:
        epoch: in which epoch.
        batch: after which of its batches.
        how: name of a signal, or "raise".
        mark: a file that says that it has happened.
        rank: the rank that it happens to.
    """

    def __init__(self, epoch: int, batch: int, how: str, mark: str, rank: int = 0) -> None:
        self.at, self.how, self.mark, self.rank = (epoch, batch), how, Path(mark), rank

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        here = (trainer.current_epoch, batch_idx) == self.at and trainer.global_rank == self.rank
        if here and not self.mark.exists():
            self.mark.touch()
            if self.how == "raise":
                raise Interrupted
            os.kill(os.getpid(), signal.Signals[self.how])


class KillScoring(L.Callback):
    """Sends this process SIGTERM after the first batch that is scored, once.

    Args:
        mark: a file that says that it has happened.
    """

    def __init__(self, mark: str) -> None:
        self.mark = Path(mark)

    def on_test_batch_end(self, *_: Any) -> None:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGTERM)
