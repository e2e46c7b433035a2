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


def selection(mode: str = "max", patience: int = 3, min_delta: float = 0.0) -> CheckpointSelector:
    return CheckpointSelector(("score", mode), ("score", mode), patience, min_delta)


@given(SCORES, st.sampled_from(["min", "max"]), st.integers(1, 4), st.sampled_from([0.0, 0.125]))
def test_stops_when_lightning_does(scores: list[float], mode: str, patience: int, min_delta: float) -> None:
    ours = selection(mode, patience, min_delta)
    theirs = EarlyStopping("score", mode=mode, patience=patience, min_delta=min_delta)
    trainer: Any = SimpleNamespace(
        callback_metrics={}, should_stop=False, current_epoch=0, fast_dev_run=False, world_size=1
    )
    trainer.strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
    for epoch, score in enumerate(scores, 1):
        ours.update({"score": score}, epoch)
        trainer.callback_metrics["score"] = torch.tensor(score, dtype=torch.float64)
        theirs._run_early_stopping_check(cast(Any, trainer))
        assert ours.stopped == trainer.should_stop
        if ours.stopped:
            return


@given(SCORES, st.sampled_from(["min", "max"]))
def test_keeps_the_first_of_the_best(scores: list[float], mode: str) -> None:
    chosen = selection(mode)
    kept = [epoch for epoch, score in enumerate(scores) if chosen.update({"score": score}, epoch)][-1]
    best = max(scores) if mode == "max" else min(scores)
    assert chosen.best == best
    assert kept == scores.index(best)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_ends_training(score: float) -> None:
    chosen = selection()
    assert chosen.update({"score": 0.5}, 1)
    assert not chosen.update({"score": score}, 2)
    assert (chosen.stopped, chosen.best, chosen.epoch) == (True, 0.5, 2)


def test_two_scores() -> None:
    chosen = CheckpointSelector(("co_bps", "max"), ("loss", "min"), 1, 0.0)
    assert chosen.update({"co_bps": 0.1, "loss": 1.0}, 1)
    assert chosen.update({"co_bps": 0.2, "loss": 1.5}, 2)
    assert chosen.stopped


def test_goes_on_where_it_was() -> None:
    first, second = selection(), selection()
    for epoch, score in enumerate([0.1, 0.3, 0.2, 0.2], 1):
        first.update({"score": score}, epoch)
    second.load_state_dict(first.state_dict())
    assert vars(second) == vars(first)


def test_a_failure_ends_training() -> None:
    chosen = selection()
    chosen.fail("first")
    chosen.fail("second")
    assert (chosen.stopped, chosen.failure) == (True, "first")
    with pytest.raises(ConfigError, match="there is no score to monitor, but other"):
        chosen.update({"other": 0.5}, 1)
