"""Tests of samplers and batches of several sessions."""

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
def test_sessions_are_balanced_and_ranks_share_the_global_batch(
    sizes: list[int], batch_size: int, world_size: int, epoch: int
) -> None:
    ranks = [BalancedSessionSampler(starts(sizes), batch_size, 7, rank, world_size) for rank in range(world_size)]
    for sampler in ranks:
        sampler.set_epoch(epoch)
    single_process = BalancedSessionSampler(starts(sizes), batch_size * world_size, 7)
    single_process.set_epoch(epoch)
    counts: Counter[int] = Counter()
    assert len({len(sampler) for sampler in [*ranks, single_process]}) == 1
    for global_index, *shards in zip(single_process, *ranks, strict=True):
        assert global_index.global_size == batch_size * world_size
        in_batch = Counter(global_index.sessions.tolist())
        assert max(in_batch.values()) - min(in_batch[number] for number in range(len(sizes))) <= 1
        assert (np.diff(global_index.sessions) >= 0).all()
        counts.update(in_batch)
        for shard in shards:
            assert len(shard.rows) == batch_size
            assert np.array_equal(global_index.starts[shard.rows], shard.starts)
            assert np.array_equal(global_index.sessions[shard.rows], shard.sessions)
        assert sorted(np.concatenate([shard.rows for shard in shards])) == list(range(len(global_index.rows)))
        assert (global_index.starts % 10 == global_index.sessions).all()
    assert max(counts.values()) - min(counts[number] for number in range(len(sizes))) <= 1


def test_epochs_differ_and_repeat_no_segment() -> None:
    sampler = BalancedSessionSampler(starts([12, 12]), 4, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(
            [(int(s), int(n)) for index in sampler for s, n in zip(index.starts, index.sessions, strict=True)]
        )
    assert epochs[0] == epochs[2] != epochs[1]
    assert len(set(epochs[0])) == len(epochs[0]) == 24


@pytest.mark.parametrize("world_size", [1, 3])
def test_sequential_sampler_covers_every_segment_once(world_size: int) -> None:
    samplers = [SequentialSegmentSampler(starts([5, 1, 7]), 2, rank, world_size) for rank in range(world_size)]
    assert len({len(sampler) for sampler in samplers}) == 1
    sampled = [
        (int(n), int(s))
        for sampler in samplers
        for index in sampler
        for n, s in zip(index.sessions, index.starts, strict=True)
    ]
    assert sorted(sampled) == [
        (n, int(s)) for n, segment_starts in enumerate(starts([5, 1, 7])) for s in segment_starts
    ]


def test_batch_equals_slices_of_the_recordings(data: InMemory, batch: SessionBatch) -> None:
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


def test_batch_without_privileged_has_no_spikes(batch: SessionBatch) -> None:
    public = batch.without_privileged()
    assert public.privileged is None
    assert public.sessions == batch.sessions
    with pytest.raises(TeacherError, match="has none; predict with a student"):
        public.spikes_only()


def test_spikes_only_batch_has_no_lfp(batch: SessionBatch) -> None:
    spike_batch = batch.spikes_only()
    assert batch.privileged is not None
    assert torch.equal(spike_batch.observed, batch.privileged)
    assert torch.equal(spike_batch.target, batch.privileged)
    assert spike_batch.privileged is None
    assert spike_batch.spikes_only() is spike_batch


def test_all_tensors_of_a_batch_move_to_the_device(batch: SessionBatch) -> None:
    moved = batch.to("meta")
    assert moved.sessions == batch.sessions
    assert all(v.device.type == "meta" for v in vars(moved).values() if isinstance(v, torch.Tensor))
