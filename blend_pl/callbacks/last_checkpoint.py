"""The checkpoint from which a run is resumed."""

from contextlib import ExitStack
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from blend_pl.runs.folder import LAST_CHECKPOINT
from blend_pl.utils.signals import handle_signals


class LastCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt` atomically after each validation, whether or not the monitored score improves.

    After SIGTERM or SIGUSR1, which schedulers send before a job ends, training completes the current epoch, writes the
    checkpoint and stops on all ranks. A run resumed from this checkpoint ends with the same weights as an
    uninterrupted run.

    Args:
        checkpoint_dir: folder of the checkpoints of the run.

    Attributes:
        interrupted: whether a signal ended training.
    """

    def __init__(self, checkpoint_dir: Path) -> None:
        # `save_last` of Lightning writes the file only when the score improves.
        super().__init__(checkpoint_dir, Path(LAST_CHECKPOINT).stem, enable_version_counter=False)
        self.interrupted = False
        self._stop_requested = False
        self._signal_handlers = ExitStack()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._signal_handlers.enter_context(handle_signals(self._request_stop))
        # Do not train further if early stopping had already ended training before the run was killed.
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
                trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves as `ModelCheckpoint` does; if any rank received a signal, always saves, and ends training."""
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.strategy.reduce_boolean_decision(self._stop_requested, all=False):
            assert self.dirpath is not None
            trainer.save_checkpoint(Path(self.dirpath) / LAST_CHECKPOINT)
            self.interrupted = trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._signal_handlers.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._signal_handlers.close()

    def _request_stop(self, _: int) -> None:
        self._stop_requested = True
