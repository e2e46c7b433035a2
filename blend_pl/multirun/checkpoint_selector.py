"""Which checkpoint is kept, and when to stop: for each of several models that train together."""

import math
from typing import Any

from blend_pl.errors import ConfigError


class CheckpointSelector:
    """Follows one model's score, as Lightning's ModelCheckpoint and EarlyStopping do.

    Args:
        checkpoint_monitor: name of the score that chooses the checkpoint, and "min" or "max".
        stopping_monitor: the same of the score that ends training.
        patience: validations without a better score after which training ends.
        min_delta: how much better a score must be to count for this.

    Attributes:
        best: the best score so far; NaN before there is any.
        epoch: how many epochs were trained when training ended.
        stopped: whether it has.
        failure: why the run has failed; empty otherwise.
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
        """Takes the scores of a validation.

        Args:
            scores: by name.
            epoch: epochs trained so far.

        Returns:
            Whether the model is the best so far.

        Raises:
            ConfigError: there is no such score.
        """
        for name in (self.checkpoint_monitor[0], self.stopping_monitor[0]):
            if name not in scores:
                raise ConfigError(f"there is no {name} to monitor, but {', '.join(scores)}; monitor one of them")
        self.epoch = epoch
        self._update_stopping(scores[self.stopping_monitor[0]])
        score = scores[self.checkpoint_monitor[0]]
        better = math.isfinite(score) and _is_improvement(self.checkpoint_monitor, self.best, score, 0.0)
        if better:
            self.best = score
        return better

    def fail(self, reason: str) -> None:
        """Ends training without a result."""
        self.failure, self.stopped = self.failure or reason, True

    def _update_stopping(self, score: float) -> None:
        # A score that is no number never gets better again.
        self.stopped = not math.isfinite(score)
        if _is_improvement(self.stopping_monitor, self.stopping_best, score, self.min_delta):
            self.stopping_best, self.wait_count = score, 0
            return
        self.wait_count += 1
        self.stopped = self.stopped or self.wait_count >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What changes over training."""
        return {
            name: getattr(self, name) for name in ("best", "stopping_best", "wait_count", "epoch", "stopped", "failure")
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        vars(self).update(state)


def _is_improvement(monitor: tuple[str, str], previous: float, current: float, min_delta: float) -> bool:
    gain = current - previous if monitor[1] == "max" else previous - current
    return math.isnan(previous) or gain > min_delta
