"""One line of progress for a whole training."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, Timer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from blend_pl.callbacks.training_cost import count_parameters


class TrainingProgress(ProgressBar):
    """Shows the share of the whole training that is done, the time left, and the score that selects the checkpoint.

    The share refers to the limit that is reached first: `max_epochs`, `max_steps` or `max_time`. The time left is
    estimated from the share that this process has trained, so that it is also correct in a resumed run. In a terminal,
    the line is updated in place; otherwise a line is printed after every `every_percent` of the training. Only rank 0
    shows it.

    Args:
        name: name of the run, at the start of the line.
        every_percent: share of the training between two lines if the output is not a terminal, in percent.
        console: where to print; None for standard error.
    """

    REFRESH_S = 0.2
    """Shortest time between two updates in a terminal."""

    def __init__(self, name: str = "training", every_percent: int = 10, console: Console | None = None) -> None:
        super().__init__()
        self.name, self.every_percent = name, every_percent
        self.console = console or Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        self._live: Live | None = None
        self._start_fraction, self._start_s, self._updated_s, self._next_percent = 0.0, 0.0, 0.0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._start_fraction, self._start_s = completed_fraction(trainer), time.monotonic()
        n_parameters, world_size = count_parameters(pl_module), trainer.world_size
        device = f"{world_size} x {pl_module.device.type}" if world_size > 1 else str(pl_module.device)
        resumed = f", resumed at {self._start_fraction:.0%}" if self._start_fraction else ""
        self.console.print(f"{self.name}: training {n_parameters:,} parameters on {device}{resumed}")
        self._next_percent = 100 * self._start_fraction + self.every_percent
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        now = time.monotonic()
        if self._live is not None and now - self._updated_s >= self.REFRESH_S:
            self._updated_s = now
            self._live.update(Text(self.describe(trainer), no_wrap=True, overflow="ellipsis"), refresh=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._live is not None or not trainer.is_global_zero:
            return
        percent = 100 * completed_fraction(trainer)
        if self._next_percent <= percent < 100:
            self._next_percent = percent - percent % self.every_percent + self.every_percent
            self.console.print(self.describe(trainer))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._stop()
        fraction = completed_fraction(trainer)
        seconds = time.monotonic() - self._start_s
        ending = "trained" if fraction >= 1 else f"stopped at {fraction:.0%}"
        epochs = f"{trainer.current_epoch} epochs"
        self.console.print(f"{self.name}: {ending} in {format_duration(seconds)}, {epochs}{self._scores(trainer)}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()

    def describe(self, trainer: L.Trainer) -> str:
        """Returns the line of progress."""
        fraction = completed_fraction(trainer)
        trained = fraction - self._start_fraction
        left = ""
        if trained > 0:
            seconds = (time.monotonic() - self._start_s) * (1 - fraction) / trained
            left = f", {format_duration(seconds)} left"
        epochs = f"/{trainer.max_epochs}" if trainer.max_epochs not in (None, -1) else ""
        return f"{self.name}: {fraction:4.0%}{left}, epoch {trainer.current_epoch + 1}{epochs}{self._scores(trainer)}"

    def _scores(self, trainer: L.Trainer) -> str:
        checkpoint: Any = trainer.checkpoint_callback
        monitor = getattr(checkpoint, "monitor", None)
        last = trainer.callback_metrics.get(monitor) if monitor else None
        if last is None:
            return ""
        # The checkpoint of this validation may not be saved yet.
        scores = [float(score) for score in (last, checkpoint.best_model_score) if score is not None]
        best = max(scores) if checkpoint.mode == "max" else min(scores)
        return f", {monitor} {last:.4f} (best {best:.4f})"

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def disable(self) -> None:
        """Shows nothing from now on."""
        self._stop()
        self.console.quiet = True

    def enable(self) -> None:
        """Shows the progress again."""
        self.console.quiet = False


def completed_fraction(trainer: L.Trainer) -> float:
    """Returns the share of the training that is done, for the limit that is reached first; 0 without a limit."""
    # Counts optimizer steps, so that accumulated gradients and resumed runs are accounted for.
    fractions = [trainer.global_step / trainer.estimated_stepping_batches]
    for timer in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(timer, Timer) and (remaining := timer.time_remaining()) is not None:
            passed = timer.time_elapsed()
            fractions.append(passed / max(passed + remaining, 1e-9))
    return min(1.0, max(fractions))


def format_duration(seconds: float) -> str:
    """Returns a duration, as in 0:42, 12:05 or 3:07:30.

    Example:
        >>> from blend_pl.callbacks.progress import format_duration
        >>> format_duration(42), format_duration(11250)
        ('0:42', '3:07:30')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
