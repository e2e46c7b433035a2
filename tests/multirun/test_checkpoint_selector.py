"""Tests of checkpoint selection and early stopping of replicas."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import EarlyStopping

from blend_pl.errors import ConfigError
from blend_pl.multirun.checkpoint_selector import CheckpointSelector

SCORES = st.lists(st.floats(-1, 1, width=32) | st.sampled_from([0.0, 0.25, 0.5]), min_size=1, max_size=12)


def make_selector(mode: str = "max", patience: int = 3, min_delta: float = 0.0) -> CheckpointSelector:
    return CheckpointSelector(("score", mode), ("score", mode), patience, min_delta)


@given(SCORES, st.sampled_from(["min", "max"]), st.integers(1, 4), st.sampled_from([0.0, 0.125]))
def test_stops_at_the_same_epoch_as_early_stopping(
    scores: list[float], mode: str, patience: int, min_delta: float
) -> None:
    selector = make_selector(mode, patience, min_delta)
    early_stopping = EarlyStopping("score", mode=mode, patience=patience, min_delta=min_delta)
    trainer: Any = SimpleNamespace(
        callback_metrics={}, should_stop=False, current_epoch=0, fast_dev_run=False, world_size=1
    )
    trainer.strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
    for epoch, score in enumerate(scores, 1):
        selector.update({"score": score}, epoch)
        trainer.callback_metrics["score"] = torch.tensor(score, dtype=torch.float64)
        early_stopping._run_early_stopping_check(cast(Any, trainer))
        assert selector.stopped == trainer.should_stop
        if selector.stopped:
            return


@given(SCORES, st.sampled_from(["min", "max"]))
def test_selects_first_of_equal_best_scores(scores: list[float], mode: str) -> None:
    selector = make_selector(mode)
    selected = [epoch for epoch, score in enumerate(scores) if selector.update({"score": score}, epoch)][-1]
    best = max(scores) if mode == "max" else min(scores)
    assert selector.best == best
    assert selected == scores.index(best)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_non_finite_score_stops_training(score: float) -> None:
    selector = make_selector()
    assert selector.update({"score": 0.5}, 1)
    assert not selector.update({"score": score}, 2)
    assert (selector.stopped, selector.best, selector.epoch) == (True, 0.5, 2)


def test_checkpoint_and_stopping_monitor_differ() -> None:
    selector = CheckpointSelector(("co_bps", "max"), ("loss", "min"), 1, 0.0)
    assert selector.update({"co_bps": 0.1, "loss": 1.0}, 1)
    assert selector.update({"co_bps": 0.2, "loss": 1.5}, 2)
    assert selector.stopped


def test_state_dict_restores_selector() -> None:
    first, second = make_selector(), make_selector()
    for epoch, score in enumerate([0.1, 0.3, 0.2, 0.2], 1):
        first.update({"score": score}, epoch)
    second.load_state_dict(first.state_dict())
    assert vars(second) == vars(first)


def test_failure_stops_training() -> None:
    selector = make_selector()
    selector.fail("first")
    selector.fail("second")
    assert (selector.stopped, selector.failure) == (True, "first")
    with pytest.raises(ConfigError, match="the monitored score score is not computed; monitor one of other"):
        selector.update({"other": 0.5}, 1)
