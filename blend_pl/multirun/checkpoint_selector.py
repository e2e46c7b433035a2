"""Checkpoint selection and early stopping of one replica in a stack."""

import math
from typing import Any

from blend_pl.errors import ConfigError


class CheckpointSelector:
    """Tracks the scores of one replica, as Lightning's ModelCheckpoint and EarlyStopping do for a trainer.

    Args:
        checkpoint_monitor: name of the score that selects the checkpoint, and its mode, "min" or "max".
        stopping_monitor: name and mode of the score for early stopping.
        patience: number of validations without improvement after which training stops.
        min_delta: minimum change that counts as an improvement for early stopping.

    Attributes:
        best: best score so far; NaN before the first validation.
        epoch: number of epochs trained at the last validation.
        stopped: whether training of the replica has stopped.
        failure: reason why the run failed; empty otherwise.
    """

    def __init__(
        self, checkpoint_monitor: tuple[str, str], stopping_monitor: tuple[str, str], patience: int, min_delta: float
    ) -> None:
        self.checkpoint_monitor, self.stopping_monitor = checkpoint_monitor, stopping_monitor
        self.patience, self.min_delta = patience, abs(min_delta)
        self.best = self.stopping_best = math.nan
        self.wait_count, self.epoch, self.stopped = 0, 0, False
        self.failure = ""

    def update(self, scores: dict[str, float], epoch: int) -> bool:
        """Updates the state with the scores of a validation.

        Args:
            scores: scores by name.
            epoch: number of epochs trained so far.

        Returns:
            Whether the model is the best so far.

        Raises:
            ConfigError: a monitored score is missing.
        """
        for name in (self.checkpoint_monitor[0], self.stopping_monitor[0]):
            if name not in scores:
                raise ConfigError(f"the monitored score {name} is not computed; monitor one of {', '.join(scores)}")
        self.epoch = epoch
        self._update_stopping(scores[self.stopping_monitor[0]])
        score = scores[self.checkpoint_monitor[0]]
        improved = math.isfinite(score) and _is_improvement(self.checkpoint_monitor, self.best, score, 0.0)
        if improved:
            self.best = score
        return improved

    def fail(self, reason: str) -> None:
        """Stops training without a result."""
        self.failure, self.stopped = self.failure or reason, True

    def _update_stopping(self, score: float) -> None:
        # Stops on NaN or infinity, like EarlyStopping(check_finite=True).
        self.stopped = not math.isfinite(score)
        if _is_improvement(self.stopping_monitor, self.stopping_best, score, self.min_delta):
            self.stopping_best, self.wait_count = score, 0
            return
        self.wait_count += 1
        self.stopped = self.stopped or self.wait_count >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that changes during training."""
        return {
            name: getattr(self, name) for name in ("best", "stopping_best", "wait_count", "epoch", "stopped", "failure")
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state returned by `state_dict`."""
        vars(self).update(state)


def _is_improvement(monitor: tuple[str, str], previous: float, current: float, min_delta: float) -> bool:
    gain = current - previous if monitor[1] == "max" else previous - current
    return math.isnan(previous) or gain > min_delta
