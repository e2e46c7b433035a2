"""Which checkpoint is kept, and when to stop: for each of several models that train together."""

import math
from typing import Any

from blend_pl.errors import ConfigError


class Selection:
    """Follows one model's score, as Lightning's ModelCheckpoint and EarlyStopping do.

    Args:
        choosing: name of the score that chooses the checkpoint, and "min" or "max".
        stopping: the same of the score that ends training.
        patience: validations without a better score after which training ends.
        min_delta: how much better a score must be to count for this.

    Attributes:
        best: the best score so far; NaN before there is any.
        epoch: how many epochs were trained when training ended.
        stopped: whether it has.
        failure: why the run has failed; empty otherwise.
    """

    def __init__(self, choosing: tuple[str, str], stopping: tuple[str, str], patience: int, min_delta: float) -> None:
        self.choosing, self.stopping = choosing, stopping
        self.patience, self.min_delta = patience, abs(min_delta)
        self.best = self.reference = math.nan
        self.waited, self.epoch, self.stopped = 0, 0, False
        self.failure = ""

    def take(self, scores: dict[str, float], epoch: int) -> bool:
        """Takes the scores of a validation.

        Args:
            scores: by name.
            epoch: epochs trained so far.

        Returns:
            Whether the model is the best so far.

        Raises:
            ConfigError: there is no such score.
        """
        for name in (self.choosing[0], self.stopping[0]):
            if name not in scores:
                raise ConfigError(f"there is no {name} to monitor, but {', '.join(scores)}; monitor one of them")
        self.epoch = epoch
        self._wait(scores[self.stopping[0]])
        score = scores[self.choosing[0]]
        better = math.isfinite(score) and _rises(self.choosing, self.best, score, 0.0)
        if better:
            self.best = score
        return better

    def fail(self, reason: str) -> None:
        """Ends training without a result."""
        self.failure, self.stopped = self.failure or reason, True

    def _wait(self, score: float) -> None:
        # A score that is no number never gets better again.
        self.stopped = not math.isfinite(score)
        if _rises(self.stopping, self.reference, score, self.min_delta):
            self.reference, self.waited = score, 0
            return
        self.waited += 1
        self.stopped = self.stopped or self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What changes over training."""
        return {name: getattr(self, name) for name in ("best", "reference", "waited", "epoch", "stopped", "failure")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        vars(self).update(state)


def _rises(monitored: tuple[str, str], before: float, now: float, least: float) -> bool:
    gain = now - before if monitored[1] == "max" else before - now
    return math.isnan(before) or gain > least
