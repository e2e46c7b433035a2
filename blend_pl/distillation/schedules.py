"""How much a student listens to the data, over training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LinearSchedule:
    """An alpha that goes in a straight line from one value to another.

    Attributes:
        start: alpha before the ramp.
        stop: alpha after the ramp.
        start_fraction: share of the training steps after which the ramp begins.
        end_fraction: share of the training steps after which it is over.
    """

    start: float
    stop: float
    start_fraction: float = 0.0
    end_fraction: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start_fraction <= self.end_fraction <= 1:
            raise ValueError(
                f"a ramp of alpha needs 0 <= begin <= end <= 1, not {self.start_fraction} and {self.end_fraction}"
            )

    def value_at(self, progress: float) -> float:
        """Alpha when a share of the training steps is done."""
        if progress >= self.end_fraction:
            return self.stop
        if progress <= self.start_fraction:
            return self.start
        return self.start + (self.stop - self.start) * (progress - self.start_fraction) / (
            self.end_fraction - self.start_fraction
        )
