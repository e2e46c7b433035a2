"""A callback that ends training the hard way."""

import os
import signal
from typing import Any

import lightning as L


class Interrupted(Exception):
    """What `Kill` raises when it is to leave the process alive."""


class Kill(L.Callback):
    """Ends training after a batch: SIGKILL, which nobody can catch, or an exception.

    Args:
        epoch: in which epoch.
        batch: after which of its batches.
        hard: whether the whole process goes.
    """

    def __init__(self, epoch: int, batch: int, hard: bool) -> None:
        self.at, self.hard = (epoch, batch), hard

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            if self.hard:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Interrupted
