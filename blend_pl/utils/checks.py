"""Ranges of numeric arguments, which constructors check."""

import math
from dataclasses import dataclass

from blend_pl.errors import RangeError


@dataclass(frozen=True)
class Interval:
    """Interval of allowed values; infinite and NaN values are never inside.

    Attributes:
        low: lower bound.
        high: upper bound; infinity for none.
        includes_low: whether the lower bound is allowed.
        includes_high: whether the upper bound is allowed.
    """

    low: float
    high: float = math.inf
    includes_low: bool = True
    includes_high: bool = True

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (value >= self.low if self.includes_low else value > self.low)
            and (value <= self.high if self.includes_high else value < self.high)
        )

    def __str__(self) -> str:
        if self.includes_low and self.includes_high and math.isfinite(self.high):
            return f"between {self.low} and {self.high}"
        lower = f"at least {self.low}" if self.includes_low else f"above {self.low}"
        if math.isinf(self.high):
            return lower
        return f"{lower} and {'at most' if self.includes_high else 'below'} {self.high}"


FRACTION = Interval(0, 1)
"""Shares and probabilities."""
OPEN_FRACTION = Interval(0, 1, includes_low=False, includes_high=False)
"""Shares that are neither 0 nor 1, such as that of one of two parts that must not be empty."""
DROPOUT = Interval(0, 1, includes_high=False)
"""Probabilities of dropout; 1 would drop everything."""
COUNT = Interval(1)
"""Sizes and numbers of items, at least one."""
POSITIVE = Interval(0, includes_low=False)
"""Scales, widths and rates."""
NON_NEGATIVE = Interval(0)
"""Weights, lags, seeds, and numbers that may be zero."""


def check_range(allowed: Interval, **values: float | None) -> None:
    """Checks arguments of a constructor.

    Args:
        allowed: allowed values.
        **values: values by the names of the arguments; None is not checked.

    Raises:
        RangeError: a value is outside the interval.

    Example:
        >>> from blend_pl.utils.checks import DROPOUT, check_range
        >>> check_range(DROPOUT, dropout=1.2)
        Traceback (most recent call last):
        blend_pl.errors.RangeError: dropout must be at least 0 and below 1, not 1.2
    """
    for name, value in values.items():
        if value is not None and value not in allowed:
            raise RangeError(name, value, str(allowed))
