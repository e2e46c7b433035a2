"""Distributions of sweep parameters: W&B's definitions, sampled by Optuna.

`DISTRIBUTIONS` lists the supported ones of https://docs.wandb.ai/guides/sweeps/sweep-config-keys; all others raise.
Drawing twice for one trial returns the same value, so a restarted trial keeps its parameters.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blend_pl.errors import ConfigError


class Distribution(ABC):
    """Base class of the distributions."""

    @abstractmethod
    def draw(self, name: str, trial: Any) -> Any:
        """Returns the value of parameter `name` in an `optuna.Trial`."""

    def grid_values(self) -> Sequence[Any] | None:
        """Returns the values of a grid search, as Optuna stores them; None for a continuous distribution."""
        return None


@dataclass(frozen=True)
class Categorical(Distribution):
    """One of several values of any type, with equal probabilities. Optuna stores them as JSON."""

    values: tuple[Any, ...]

    def draw(self, name: str, trial: Any) -> Any:
        return (
            self.values[0] if len(self.values) == 1 else json.loads(trial.suggest_categorical(name, self.grid_values()))
        )

    def grid_values(self) -> Sequence[str]:
        return [json.dumps(value) for value in self.values]


@dataclass(frozen=True)
class IntUniform(Distribution):
    """An integer from `low` to `high`, both included."""

    low: int
    high: int

    def draw(self, name: str, trial: Any) -> int:
        return int(trial.suggest_int(name, self.low, self.high))

    def grid_values(self) -> Sequence[int]:
        return range(self.low, self.high + 1)


@dataclass(frozen=True)
class Uniform(Distribution):
    """A float from `low` to `high`, uniform or, with `log`, uniform in its logarithm."""

    low: float
    high: float
    log: bool = False

    def draw(self, name: str, trial: Any) -> float:
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))


@dataclass(frozen=True)
class QUniform(Distribution):
    """An integer from `low` to `high` times `step`; a float, as in W&B. With `log`, the integer is log-uniform."""

    low: int
    high: int
    step: float
    log: bool = False

    def draw(self, name: str, trial: Any) -> float:
        multiple = trial.suggest_int(name, self.low, self.high, log=self.log)
        # Rounded to 12 digits, so that 3 * 0.1 is 0.3.
        return float(f"{multiple * self.step:.12g}")

    def grid_values(self) -> Sequence[int]:
        return range(self.low, self.high + 1)


def parse_distribution(name: str, entry: Any) -> Distribution:
    """Parses one entry of `parameters` in a sweep file.

    Args:
        name: name of the parameter.
        entry: value of the entry in the file.

    Raises:
        ConfigError: the entry is no supported distribution, or its numbers are invalid.
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
        raise ConfigError(f"parameter {name} ({kind}) does not take {', '.join(unknown)}; remove it")
    missing = [key for key in required if key not in entry]
    if missing:
        raise ConfigError(f"parameter {name} ({kind}) lacks {', '.join(missing)}; add it")
    for key, number in entry.items():
        if isinstance(number, str) and key != "distribution" and "value" not in key:
            raise ConfigError(
                f"{key} of parameter {name} is the string {number!r}; use a number (YAML reads 1e-3 as a string, "
                "write 1.0e-3)"
            )
    try:
        return factory(**{key: entry[key] for key in required})
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise ConfigError(f"parameter {name} ({kind}) is invalid: {error}") from error


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
        raise ValueError("`values` must be a list of at least one value")
    if any(value is None for value in values):
        raise ValueError('a null reaches the program as the text None; write the string "null"')
    if len({json.dumps(value) for value in values}) < len(values):
        raise ValueError("`values` contains a value twice")
    return Categorical(tuple(values))


def _int_uniform(min: int, max: int) -> Distribution:
    if int(min) != min or int(max) != max or min > max:
        raise ValueError(f"min and max must be integers with min <= max, not {min!r} and {max!r}")
    return IntUniform(int(min), int(max))


def _uniform(min: float, max: float, log: bool = False) -> Uniform:
    low, high = float(min), float(max)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"min and max must be finite with min <= max, not {min!r} and {max!r}")
    if log and low <= 0:
        raise ValueError("min of a logarithmic distribution must be above 0")
    return Uniform(low, high, log)


def _q_uniform(min: float, max: float, q: float, log: bool = False) -> Distribution:
    bounds = _uniform(min, max, log)
    if q <= 0:
        raise ValueError("q must be above 0")
    # The tolerance includes bounds that are multiples of q up to floating-point error.
    low, high = math.ceil(bounds.low / q - 1e-9), math.floor(bounds.high / q + 1e-9)
    if low > high:
        raise ValueError(f"there is no multiple of {q} between {min} and {max}")
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
"""Constructor and keys of each supported distribution of W&B."""
