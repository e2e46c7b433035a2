"""What a parameter of a sweep is drawn from: W&B's distributions, drawn by Optuna.

The supported ones of https://docs.wandb.ai/guides/sweeps/sweep-config-keys are in `DISTRIBUTIONS`; the others are refused.
Drawing twice for one trial gives the same value: a trial that was killed keeps its parameters.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blend_pl.errors import ConfigError


class Distribution(ABC):
    """Base class of what parameters are drawn from."""

    @abstractmethod
    def draw(self, name: str, trial: Any) -> Any:
        """The value of this parameter in an `optuna.Trial`."""

    def grid_values(self) -> Sequence[Any] | None:
        """What Optuna is told to draw, once for each value; None for a distribution that is no grid."""
        return None


@dataclass(frozen=True)
class Categorical(Distribution):
    """One of several values, with equal chances; they may be of any type, and Optuna sees them as JSON."""

    values: tuple[Any, ...]

    def draw(self, name: str, trial: Any) -> Any:
        return (
            self.values[0] if len(self.values) == 1 else json.loads(trial.suggest_categorical(name, self.grid_values()))
        )

    def grid_values(self) -> Sequence[str]:
        return [json.dumps(value) for value in self.values]


@dataclass(frozen=True)
class IntUniform(Distribution):
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def draw(self, name: str, trial: Any) -> int:
        return int(trial.suggest_int(name, self.low, self.high))

    def grid_values(self) -> Sequence[int]:
        return range(self.low, self.high + 1)


@dataclass(frozen=True)
class Uniform(Distribution):
    """A number from `low` to `high`, uniform itself or in its logarithm."""

    low: float
    high: float
    log: bool = False

    def draw(self, name: str, trial: Any) -> float:
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))


@dataclass(frozen=True)
class QUniform(Distribution):
    """A multiple of `step` from `low` to `high` times it, uniform itself or in its logarithm; a float, as in W&B."""

    low: int
    high: int
    step: float
    log: bool = False

    def draw(self, name: str, trial: Any) -> float:
        return _multiply(trial.suggest_int(name, self.low, self.high, log=self.log), self.step)

    def grid_values(self) -> Sequence[int]:
        return range(self.low, self.high + 1)


def _multiply(number: int, step: float) -> float:
    # Without the noise of binary fractions: 3 * 0.1 is 0.3.
    return float(f"{number * step:.12g}")


def parse_distribution(name: str, entry: Any) -> Distribution:
    """What an entry of a sweep's `parameters` stands for.

    Args:
        name: the parameter.
        entry: the mapping that the file holds for it.

    Raises:
        ConfigError: the entry is none that W&B knows, or cannot be drawn from.
    """
    if not isinstance(entry, Mapping):
        raise ConfigError(f"parameter {name} is {entry!r}; write `value: ...`, `values: [...]` or a distribution")
    kind = entry.get("distribution") or _infer_kind(name, entry)
    if kind not in DISTRIBUTIONS:
        raise ConfigError(
            f"parameter {name} has the distribution {kind!r}, which `sweep` does not support; "
            f"use one of {', '.join(DISTRIBUTIONS)}"
        )
    factory, required = DISTRIBUTIONS[kind]
    unknown = sorted(set(entry) - {"distribution", *required})
    if unknown:
        raise ConfigError(f"parameter {name} ({kind}) does not take {', '.join(unknown)}; remove what is too much")
    missing = [key for key in required if key not in entry]
    if missing:
        raise ConfigError(f"parameter {name} ({kind}) lacks {', '.join(missing)}")
    for key, number in entry.items():
        if isinstance(number, str) and key != "distribution" and "value" not in key:
            raise ConfigError(f"{key} of parameter {name} is the text {number!r}; YAML wants 1e-3 written as 1.0e-3")
    try:
        return factory(**{key: entry[key] for key in entry if key != "distribution"})
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise ConfigError(f"parameter {name} ({kind}) cannot be drawn: {error}") from error


def _infer_kind(name: str, entry: Mapping[str, Any]) -> str:
    if "parameters" in entry:
        raise ConfigError(f"parameter {name} is nested; write flat keys with dots, as in model.optimizer.lr")
    if "value" in entry:
        return "constant"
    if "values" in entry:
        return "categorical"
    is_integer_range = all(type(entry.get(key)) is int for key in ("min", "max"))
    return "int_uniform" if is_integer_range else "uniform"


def _constant(value: Any) -> Distribution:
    return _categorical([value])


def _categorical(values: Sequence[Any]) -> Distribution:
    if not isinstance(values, list) or not values:
        raise ValueError("`values` is a list of at least one")
    if any(value is None for value in values):
        raise ValueError('a null reaches the program as the text None; write the string "null"')
    if len({json.dumps(value) for value in values}) < len(values):
        raise ValueError("a value is there twice")
    return Categorical(tuple(values))


def _int_uniform(min: int, max: int) -> Distribution:
    if int(min) != min or int(max) != max or min > max:
        raise ValueError("min and max are whole numbers, in this order")
    return IntUniform(int(min), int(max))


def _uniform(min: float, max: float, log: bool = False) -> Distribution:
    low, high = float(min), float(max)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"min and max are numbers, in this order, not {min!r} and {max!r}")
    if log and low <= 0:
        raise ValueError("the smallest value of a logarithmic distribution is above 0")
    return Uniform(low, high, log)


def _q_uniform(min: float, max: float, q: float, log: bool = False) -> Distribution:
    bounds = _uniform(min, max, log)
    assert isinstance(bounds, Uniform)
    if q <= 0:
        raise ValueError("q is above 0")
    # A bound that is a multiple but for the noise of binary fractions belongs to them.
    low, high = math.ceil(bounds.low / q - 1e-9), math.floor(bounds.high / q + 1e-9)
    if low > high:
        raise ValueError(f"no multiple of {q} lies between {min} and {max}")
    return QUniform(low, high, float(q), log)


def _with_log_scale(factory: Callable[..., Distribution]) -> Callable[..., Distribution]:
    return lambda **numbers: factory(**numbers, log=True)


BOUNDS, BOUNDS_AND_STEP = ("min", "max"), ("min", "max", "q")
DISTRIBUTIONS: dict[str, tuple[Callable[..., Distribution], tuple[str, ...]]] = {
    "constant": (_constant, ("value",)),
    "categorical": (_categorical, ("values",)),
    "int_uniform": (_int_uniform, BOUNDS),
    "uniform": (_uniform, BOUNDS),
    "q_uniform": (_q_uniform, BOUNDS_AND_STEP),
    "log_uniform_values": (_with_log_scale(_uniform), BOUNDS),
    "q_log_uniform_values": (_with_log_scale(_q_uniform), BOUNDS_AND_STEP),
}
"""For each supported distribution of W&B, its constructor and the keys that it needs."""
