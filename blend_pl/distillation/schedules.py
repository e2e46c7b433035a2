"""Schedules of alpha, the weight of the reconstruction, over training."""

from dataclasses import dataclass

from blend_pl.utils.checks import FRACTION, check_range


@dataclass(frozen=True)
class LinearSchedule:
    """Linear change of alpha from one value to another.

    Attributes:
        start: alpha before the ramp, between 0 and 1.
        stop: alpha after the ramp, between 0 and 1.
        start_fraction: fraction of the training steps at which the ramp starts.
        end_fraction: fraction of the training steps at which the ramp ends.

    Example:
        >>> schedule = LinearSchedule(start=1.0, stop=0.5, start_fraction=0.2, end_fraction=0.6)
        >>> [round(schedule.value_at(progress), 3) for progress in (0.0, 0.4, 1.0)]
        [1.0, 0.75, 0.5]
    """

    start: float
    stop: float
    start_fraction: float = 0.0
    end_fraction: float = 1.0

    def __post_init__(self) -> None:
        check_range(FRACTION, start=self.start, stop=self.stop)
        if not 0 <= self.start_fraction <= self.end_fraction <= 1:
            raise ValueError(
                "a schedule of alpha needs 0 <= start_fraction <= end_fraction <= 1, "
                f"not {self.start_fraction} and {self.end_fraction}"
            )

    def value_at(self, progress: float) -> float:
        """Returns alpha after a fraction of the training steps."""
        if progress >= self.end_fraction:
            return self.stop
        if progress <= self.start_fraction:
            return self.start
        return self.start + (self.stop - self.start) * (progress - self.start_fraction) / (
            self.end_fraction - self.start_fraction
        )
