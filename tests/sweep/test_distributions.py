"""Tests of the distributions of sweep parameters."""

from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blend_pl.errors import ConfigError
from blend_pl.sweep.distributions import parse_distribution

optuna.logging.set_verbosity(optuna.logging.WARNING)

N_DRAWS = 120
JSON_SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
FINITE = st.floats(-1e3, 1e3).map(lambda number: round(number, 3))
POSITIVE = st.floats(1e-3, 1e3).map(lambda number: round(number, 3))


def draw_twice(entry: dict[str, Any], seed: int = 0) -> tuple[Any, Any]:
    """Draws the value of one trial twice."""
    distribution = parse_distribution("x", entry)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    return distribution.draw("x", trial), distribution.draw("x", optuna.trial.Trial(study, trial._trial_id))


def sample(entry: dict[str, Any]) -> np.ndarray:
    distribution = parse_distribution("x", entry)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return np.array([distribution.draw("x", study.ask()) for _ in range(N_DRAWS)])


@given(values=st.lists(JSON_SCALARS, min_size=1, max_size=5, unique_by=repr), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_categorical_value_keeps_its_type(values: list[Any], seed: int) -> None:
    value, again = draw_twice({"values": values}, seed)
    assert any(value == choice and type(value) is type(choice) for choice in values)
    assert repr(value) == repr(again)


@given(bounds=st.tuples(FINITE, FINITE).map(sorted), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_uniform_value_is_within_bounds(bounds: list[float], seed: int) -> None:
    low, high = bounds
    value, again = draw_twice({"min": low, "max": high}, seed)
    assert isinstance(value, float)
    assert low <= value == again <= high


@given(bounds=st.tuples(POSITIVE, POSITIVE).map(sorted), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_log_uniform_value_is_within_bounds(bounds: list[float], seed: int) -> None:
    low, high = bounds
    value, _ = draw_twice({"distribution": "log_uniform_values", "min": low, "max": high}, seed)
    assert low <= value <= high


@given(
    low=st.integers(-50, 50),
    steps=st.integers(0, 40),
    q=st.sampled_from([0.05, 0.1, 0.25, 1, 3]),
    seed=st.integers(0, 9),
)
@settings(max_examples=50, deadline=None)
def test_q_uniform_value_is_multiple_within_bounds(low: int, steps: int, q: float, seed: int) -> None:
    bounds = {"min": low * q, "max": (low + steps) * q}
    value, again = draw_twice({"distribution": "q_uniform", **bounds, "q": q}, seed)
    assert value == again == float(f"{round(value / q) * q:.12g}")
    assert bounds["min"] - 1e-9 <= value <= bounds["max"] + 1e-9


@given(bounds=st.tuples(st.integers(-99, 99), st.integers(-99, 99)).map(sorted), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_integer_bounds_give_integers(bounds: list[int], seed: int) -> None:
    value, _ = draw_twice({"min": bounds[0], "max": bounds[1]}, seed)
    assert type(value) is int
    assert bounds[0] <= value <= bounds[1]


@pytest.mark.parametrize(
    ("entry", "median"),
    [
        ({"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}, 1e-3),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 100, "q": 1}, 10.0),
    ],
    ids=lambda entry: entry["distribution"] if isinstance(entry, dict) else "",
)
def test_median_of_draws(entry: dict[str, Any], median: float) -> None:
    values = sample(entry)
    assert np.isfinite(values).all()
    assert len(np.unique(values)) > 5
    assert np.mean(values < median * 1.001) == pytest.approx(0.5, abs=0.2)
    assert np.mean(values > median * 0.999) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"value": None}, 'write the string "null"'),
        ({"values": [None, 1]}, 'write the string "null"'),
        ({"values": []}, "at least one value"),
        ({"values": 3}, "a list"),
        ({"values": [1, 1]}, "twice"),
        ({"values": [1, 2], "probabilities": [0.5, 0.5]}, "does not take probabilities"),
        ({"distribution": "cauchy", "mu": 0}, "the distribution 'cauchy', which `sweep` does not support"),
        ({"min": 0.0}, "lacks max; add it"),
        ({"min": 2.0, "max": 1.0}, "finite with min <= max"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "above 0"),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.2, "q": 1}, "no multiple of 1"),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.2, "q": 0}, "above 0"),
        ({"min": 0.0, "max": 1.0, "q": 1}, "does not take q"),
        ({"min": "3e-4", "max": 1.0}, "write 1.0e-3"),
        ({"parameters": {"a": {"value": 1}}}, "flat keys"),
        (3, "write `value"),
    ],
)
def test_invalid_entry_raises_one_line_error(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_distribution("model.x", entry)
    assert message in str(error.value)
    assert "model.x" in str(error.value)
    assert "\n" not in str(error.value)


UNSUPPORTED = """categorical_w_probabilities log_uniform q_log_uniform inv_log_uniform inv_log_uniform_values normal
q_normal log_normal q_log_normal beta q_beta"""


@pytest.mark.parametrize("kind", UNSUPPORTED.split())
def test_unsupported_wandb_distribution_raises(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"{kind}'.* not support; use one of constant, categorical, int_uniform"):
        parse_distribution("x", {"distribution": kind, "min": 0.0, "max": 1.0})
