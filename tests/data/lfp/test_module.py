"""Tests of the data module of several sessions."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.lfp import InMemory, in_memory, recording

from blend_pl.errors import ConfigError, DataError


def test_held_out_sessions_are_evaluated_but_not_trained_on() -> None:
    data = in_memory(held_out=["b2"])
    assert data.training_sessions == ["a1", "a2", "b1"]
    assert data.evaluation_sessions == ["a1", "a2", "b1", "b2"]
    assert [session.name for session in data.signature.sessions] == data.training_sessions
    loaded = {
        name for batches in (data.train_dataloader(), data.val_dataloader()) for b in batches for name in b.sessions
    }
    assert loaded == set(data.training_sessions)
    assert next(iter(data.segment_dataloader("b2", "test"))).sessions[0] == "b2"


def test_train_on_selects_the_training_sessions() -> None:
    assert in_memory(held_out=["b2"], train_on="all").training_sessions == ["a1", "a2", "b1", "b2"]
    one = in_memory(held_out=["b2"], train_on=["a2"])
    assert (one.training_sessions, one.evaluation_sessions) == (["a2"], ["a2", "b2"])


@pytest.mark.parametrize("split", ["random", "blocks"])
def test_z_scores_are_fitted_on_training_segments(split: str) -> None:
    changed = recording("a1", 8000)
    data = InMemory([changed], split=split)
    data.setup("fit")
    session = data.sessions["a1"]
    train = np.concatenate([np.arange(s, s + 50) for s in session.segments.train])
    assert session.lfp[train].mean(0).abs().max() < 1e-4
    assert (session.lfp[train].std(0) - 1).abs().max() < 1e-3
    test = np.concatenate([np.arange(s, s + 50) for s in session.segments.test])
    lfp = changed.lfp.copy()
    lfp[test] += 100
    other = InMemory([replace(changed, lfp=lfp)], split=split)
    other.setup("fit")
    assert np.array_equal(other.sessions["a1"].lfp[train], session.lfp[train])


def test_missing_samples_are_not_targets() -> None:
    source = recording("a1", 8000)
    lfp, behavior = source.lfp.copy(), source.behavior.copy()
    lfp[:4000, 2] = np.nan
    behavior[:, 0] = np.nan
    data = InMemory([replace(source, lfp=lfp, behavior=behavior)])
    data.setup("fit")
    for batch in data.train_dataloader():
        assert batch.observed.isfinite().all()
        assert batch.behavior.isfinite().all()
        assert not batch.behavior_valid[..., 0].any()
        assert batch.behavior_valid[..., 1].all()
        late = batch.index >= 4000
        assert batch.target_valid[late][..., 2].all()
        assert not batch.target_valid[~late][..., 2].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"held_out": ["z"]}, "there is no session z, only a1, a2, b1, b2"),
        ({"train_on": ["y"]}, "there is no session y"),
        ({"train_on": "some"}, 'data.train_on is "some"; write "held_in", "all" or a list'),
        ({"held_out": ["a1", "a2", "b1", "b2"]}, "every session is held out"),
    ],
)
def test_settings_that_contradict_the_sessions_raise(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        in_memory(**settings)


def test_incompatible_sessions_raise() -> None:
    with pytest.raises(DataError, match="two recordings have the same name"):
        InMemory([recording("a1", 3000)] * 2).setup("fit")
    with pytest.raises(DataError, match="bins of 10, 20 ms"):
        InMemory([recording("a1", 3000), replace(recording("b1", 3000), bin_ms=20)]).setup("fit")
    with pytest.raises(ConfigError, match="`test` decodes velocity"):
        in_memory("a1").predict_dataloader()
