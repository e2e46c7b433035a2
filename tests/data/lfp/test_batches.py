"""Batches of several sessions: balanced, ragged, the same under any division over ranks."""

from collections import Counter

import numpy as np
import pytest
import torch
from helpers.lfp import InMemory, in_memory, recording
from hypothesis import given, settings
from hypothesis import strategies as st

from blend_pl.data.lfp.batches import BalancedSessionSampler, SequentialSegmentSampler, SessionBatch
from blend_pl.errors import TeacherError


@pytest.fixture(scope="module")
def data() -> InMemory:
    return in_memory()


@pytest.fixture
def batch(data: InMemory) -> SessionBatch:
    return next(iter(data.train_dataloader()))


def starts(sizes: list[int]) -> list[np.ndarray]:
    return [np.arange(size) * 10 + number for number, size in enumerate(sizes)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 8), st.integers(1, 3), st.integers(0, 3))
def test_sessions_are_balanced_and_ranks_share_what_one_would_have(
    sizes: list[int], batch_size: int, world_size: int, epoch: int
) -> None:
    ranks = [BalancedSessionSampler(starts(sizes), batch_size, 7, rank, world_size) for rank in range(world_size)]
    for plan in ranks:
        plan.set_epoch(epoch)
    alone = BalancedSessionSampler(starts(sizes), batch_size * world_size, 7)
    alone.set_epoch(epoch)
    counts: Counter[int] = Counter()
    assert len({len(plan) for plan in [*ranks, alone]}) == 1
    for whole, *shares in zip(alone, *ranks, strict=True):
        assert whole.global_size == batch_size * world_size
        in_batch = Counter(whole.sessions.tolist())
        assert max(in_batch.values()) - min(in_batch[number] for number in range(len(sizes))) <= 1
        assert (np.diff(whole.sessions) >= 0).all()
        counts.update(in_batch)
        for share in shares:
            assert len(share.rows) == batch_size
            assert np.array_equal(whole.starts[share.rows], share.starts)
            assert np.array_equal(whole.sessions[share.rows], share.sessions)
        assert sorted(np.concatenate([share.rows for share in shares])) == list(range(len(whole.rows)))
        assert (whole.starts % 10 == whole.sessions).all()
    assert max(counts.values()) - min(counts[number] for number in range(len(sizes))) <= 1


def test_an_epoch_draws_anew_and_repeats_nothing_early() -> None:
    plan = BalancedSessionSampler(starts([12, 12]), 4, seed=1)
    drawn = []
    for epoch in (0, 1, 0):
        plan.set_epoch(epoch)
        drawn.append([(int(s), int(n)) for cut in plan for s, n in zip(cut.starts, cut.sessions, strict=True)])
    assert drawn[0] == drawn[2] != drawn[1]
    assert len(set(drawn[0])) == len(drawn[0]) == 24


@pytest.mark.parametrize("world_size", [1, 3])
def test_every_segment_comes_once(world_size: int) -> None:
    plans = [SequentialSegmentSampler(starts([5, 1, 7]), 2, rank, world_size) for rank in range(world_size)]
    assert len({len(plan) for plan in plans}) == 1
    seen = [(int(n), int(s)) for plan in plans for cut in plan for n, s in zip(cut.sessions, cut.starts, strict=True)]
    assert sorted(seen) == [(n, int(s)) for n, each in enumerate(starts([5, 1, 7])) for s in each]


def test_a_batch_holds_what_was_recorded(data: InMemory, batch: SessionBatch) -> None:
    assert batch.observed.shape == (8, 50, 24)
    assert batch.privileged is not None
    assert batch.privileged_valid is not None
    assert batch.privileged.shape == (8, 50, 30)
    for row, (name, start) in enumerate(zip(batch.sessions, batch.index.tolist(), strict=True)):
        source, session = recording(name, 3000), data.sessions[name]
        channels, units = source.lfp.shape[1], source.spikes.shape[1]
        assert torch.equal(batch.observed[row, :, :channels], session.lfp[start : start + 50])
        assert np.array_equal(batch.privileged[row, :, :units].numpy(), source.spikes[start : start + 50])
        assert batch.target_valid[row].all(0).tolist() == [True] * channels + [False] * (24 - channels)
        assert batch.privileged_valid[row].all(0).tolist() == [True] * units + [False] * (30 - units)
        assert batch.observed[row, :, channels:].count_nonzero() == 0
        assert start in session.segments.train


def test_the_public_batch_has_no_spikes(batch: SessionBatch) -> None:
    public = batch.without_privileged()
    assert public.privileged is None
    assert public.sessions == batch.sessions
    with pytest.raises(TeacherError, match="carries none; predict with a student"):
        public.spikes_only()


def test_a_turned_batch_has_spikes_alone(batch: SessionBatch) -> None:
    turned = batch.spikes_only()
    assert batch.privileged is not None
    assert torch.equal(turned.observed, batch.privileged)
    assert torch.equal(turned.target, batch.privileged)
    assert turned.privileged is None
    assert turned.spikes_only() is turned


def test_a_batch_moves_as_a_whole(batch: SessionBatch) -> None:
    moved = batch.to("meta")
    assert moved.sessions == batch.sessions
    assert all(v.device.type == "meta" for v in vars(moved).values() if isinstance(v, torch.Tensor))
