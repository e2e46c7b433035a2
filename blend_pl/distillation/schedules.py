"""How much a student listens to the data, over training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ramp:
    """An alpha that goes in a straight line from one value to another.

    Attributes:
        start: alpha before the ramp.
        stop: alpha after the ramp.
        begin: share of the training steps after which the ramp begins.
        end: share of the training steps after which it is over.
    """

    start: float
    stop: float
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= self.end <= 1:
            raise ValueError(f"a ramp of alpha needs 0 <= begin <= end <= 1, not {self.begin} and {self.end}")

    def at(self, progress: float) -> float:
        """Alpha when a share of the training steps is done."""
        if progress >= self.end:
            return self.stop
        if progress <= self.begin:
            return self.start
        return self.start + (self.stop - self.start) * (progress - self.begin) / (self.end - self.begin)
