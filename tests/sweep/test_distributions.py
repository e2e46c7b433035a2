"""W&B's distributions, drawn by Optuna."""

from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blend_pl.errors import ConfigError
from blend_pl.sweep.distributions import parse_distribution

optuna.logging.set_verbosity(optuna.logging.WARNING)

N = 120
PLAIN = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
FINITE = st.floats(-1e3, 1e3).map(lambda number: round(number, 3))
POSITIVE = st.floats(1e-3, 1e3).map(lambda number: round(number, 3))


def asked(entry: dict[str, Any], seed: int = 0) -> tuple[Any, Any]:
    """A value, and the same value asked for again."""
    drawn = parse_distribution("x", entry)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    return drawn.draw("x", trial), drawn.draw("x", optuna.trial.Trial(study, trial._trial_id))


def sample(entry: dict[str, Any]) -> np.ndarray:
    drawn = parse_distribution("x", entry)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return np.array([drawn.draw("x", study.ask()) for _ in range(N)])


@given(values=st.lists(PLAIN, min_size=1, max_size=5, unique_by=repr), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_a_choice_is_one_of_the_values_with_its_type(values: list[Any], seed: int) -> None:
    value, again = asked({"values": values}, seed)
    assert any(value == wanted and type(value) is type(wanted) for wanted in values)
    assert repr(value) == repr(again)


@given(bounds=st.tuples(FINITE, FINITE).map(sorted), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_number_lies_between_its_bounds(bounds: list[float], seed: int) -> None:
    low, high = bounds
    value, again = asked({"min": low, "max": high}, seed)
    assert isinstance(value, float)
    assert low <= value == again <= high


@given(bounds=st.tuples(POSITIVE, POSITIVE).map(sorted), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_logarithmic_number_does_too(bounds: list[float], seed: int) -> None:
    low, high = bounds
    value, _ = asked({"distribution": "log_uniform_values", "min": low, "max": high}, seed)
    assert low <= value <= high


@given(
    low=st.integers(-50, 50),
    steps=st.integers(0, 40),
    q=st.sampled_from([0.05, 0.1, 0.25, 1, 3]),
    seed=st.integers(0, 9),
)
@settings(max_examples=50, deadline=None)
def test_a_quantised_number_is_a_multiple_between_its_bounds(low: int, steps: int, q: float, seed: int) -> None:
    bounds = {"min": low * q, "max": (low + steps) * q}
    value, again = asked({"distribution": "q_uniform", **bounds, "q": q}, seed)
    assert value == again == float(f"{round(value / q) * q:.12g}")
    assert bounds["min"] - 1e-9 <= value <= bounds["max"] + 1e-9


@given(bounds=st.tuples(st.integers(-99, 99), st.integers(-99, 99)).map(sorted), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_whole_bounds_give_whole_numbers(bounds: list[int], seed: int) -> None:
    value, _ = asked({"min": bounds[0], "max": bounds[1]}, seed)
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
def test_half_of_the_draws_lie_below_the_median(entry: dict[str, Any], median: float) -> None:
    drawn = sample(entry)
    assert np.isfinite(drawn).all()
    assert len(np.unique(drawn)) > 5
    assert np.mean(drawn < median * 1.001) == pytest.approx(0.5, abs=0.2)
    assert np.mean(drawn > median * 0.999) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"value": None}, 'write the string "null"'),
        ({"values": [None, 1]}, 'write the string "null"'),
        ({"values": []}, "at least one"),
        ({"values": 3}, "a list"),
        ({"values": [1, 1]}, "twice"),
        ({"values": [1, 2], "probabilities": [0.5, 0.5]}, "does not take probabilities"),
        ({"distribution": "cauchy", "mu": 0}, "the distribution 'cauchy', which `sweep` does not support"),
        ({"min": 0.0}, "lacks max"),
        ({"min": 2.0, "max": 1.0}, "in this order"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "above 0"),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.2, "q": 1}, "no multiple of 1"),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.2, "q": 0}, "above 0"),
        ({"min": 0.0, "max": 1.0, "q": 1}, "does not take q"),
        ({"min": "3e-4", "max": 1.0}, "written as 1.0e-3"),
        ({"parameters": {"a": {"value": 1}}}, "flat keys"),
        (3, "write `value"),
    ],
)
def test_a_bad_entry_is_refused_on_one_line(entry: Any, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_distribution("model.x", entry)
    assert complaint in str(error.value)
    assert "model.x" in str(error.value)
    assert "\n" not in str(error.value)


UNSUPPORTED = """categorical_w_probabilities log_uniform q_log_uniform inv_log_uniform inv_log_uniform_values normal
q_normal log_normal q_log_normal beta q_beta"""


@pytest.mark.parametrize("kind", UNSUPPORTED.split())
def test_unsupported_wandb_distribution_raises(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"{kind}'.* not support; use one of constant, categorical, int_uniform"):
        parse_distribution("x", {"distribution": kind, "min": 0.0, "max": 1.0})
