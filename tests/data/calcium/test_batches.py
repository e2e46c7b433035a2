"""Tests of samplers and batches of calcium windows."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.calcium import make_recording

from blend_pl.data.calcium.batches import CalciumLoader, RandomWindowSampler, SequentialWindowSampler
from blend_pl.data.calcium.population import CalciumSession, build_calcium_session

START_RANGES = [(0, 30), (5, 12)]
CELL_COLUMNS = [torch.arange(0, 20, 2), torch.arange(7)]


def random_windows(seed: int = 0, rank: int = 0, world_size: int = 1, **sizes: int) -> RandomWindowSampler:
    sizes = {"n_steps": 40, "n_windows": 3, "n_cells": 6, **sizes}
    return RandomWindowSampler(START_RANGES, CELL_COLUMNS, **sizes, seed=seed, rank=rank, world_size=world_size)


def test_windows_and_cells_stay_within_their_ranges() -> None:
    indices = list(random_windows())
    assert len(indices) == 40
    assert {index.session for index in indices} == {0, 1}
    for index in indices:
        first, last = START_RANGES[index.session]
        assert ((index.starts >= first) & (index.starts <= last)).all()
        assert set(index.cells.tolist()) <= set(CELL_COLUMNS[index.session].tolist())
        assert len(set(index.cells.tolist())) == len(index.cells) == 6
        assert len(index.starts) == 3
    starts = torch.cat([index.starts for index in indices if index.session == 1])
    assert (starts.min(), starts.max()) == START_RANGES[1]


def test_epoch_depends_on_seed_and_epoch_only() -> None:
    def draw(seed: int, epoch: int) -> list[list[int]]:
        sampler = random_windows(seed)
        sampler.set_epoch(epoch)
        return [[index.session, *index.starts.tolist(), *index.cells.tolist()] for index in sampler]

    assert draw(1, 2) == draw(1, 2)
    assert draw(1, 2) != draw(1, 3)
    assert draw(1, 2) != draw(2, 2)


def test_ranks_share_the_global_batch() -> None:
    ranks = [list(random_windows(rank=rank, world_size=3, n_windows=2)) for rank in range(3)]
    single_process = list(random_windows(n_windows=6))
    for index, *shards in zip(single_process, *ranks, strict=True):
        assert all(torch.equal(shard.cells, index.cells) and shard.session == index.session for shard in shards)
        assert all(torch.equal(shard.starts, index.starts[shard.global_rows]) for shard in shards)
        assert sorted(torch.cat([shard.global_rows for shard in shards]).tolist()) == list(range(6))
        assert {shard.global_size for shard in shards} == {6}


def test_recording_without_cells_is_skipped() -> None:
    sampler = RandomWindowSampler(START_RANGES, [torch.arange(0), torch.arange(3)], 20, 1, 6)
    assert {index.session for index in sampler} == {1}
    assert {
        index.session for index in SequentialWindowSampler(START_RANGES, [torch.arange(0), torch.arange(3)], 4, 2, 2)
    } == {1}


@pytest.mark.parametrize("world_size", [1, 2])
def test_sequential_sampler_covers_every_window_of_every_cell_once(world_size: int) -> None:
    sampled = []
    for rank in range(world_size):
        for index in SequentialWindowSampler(START_RANGES, CELL_COLUMNS, 4, 3, 6, rank, world_size):
            sampled += [(index.session, int(start), int(cell)) for start in index.starts for cell in index.cells]
    expected = [
        (recording, start, int(cell))
        for recording, (first, last) in enumerate(START_RANGES)
        for start in range(first, last + 1, 4)
        for cell in CELL_COLUMNS[recording]
    ]
    assert sorted(sampled) == expected
    starts = sorted({start for recording, start, _ in sampled if recording == 0})
    assert all(b - a == 4 for a, b in pairwise(starts))


def make_session() -> CalciumSession:
    return build_calcium_session(make_recording([f"c{i}" for i in range(20)]), np.arange(20) + 100, 0.75, 65.0)


def test_batch_equals_slices_of_the_recording() -> None:
    session = make_session()
    table = torch.arange(200) * 3
    sampler = RandomWindowSampler([(0, 30)], [torch.arange(20)], 2, 2, 5)
    for index, batch in zip(sampler, CalciumLoader([session], sampler, 8, table), strict=True):
        for window, start in enumerate(index.starts.tolist()):
            frames = slice(start, start + 8)
            assert torch.equal(batch.observed[window], session.activity[frames][:, index.cells])
            assert torch.equal(batch.target_valid[window], session.valid[frames][:, index.cells])
            assert torch.equal(batch.population_context[window], session.population_context[frames][:, index.cells])
            assert batch.privileged is not None
            assert torch.equal(batch.privileged[window], session.behavior[frames])
        assert torch.equal(batch.embedding_index, table[100 + index.cells])
        assert torch.equal(batch.target, batch.observed)
        assert torch.equal(batch.index, index.starts)


def test_batch_without_privileged_has_no_behavior() -> None:
    (batch, *_) = CalciumLoader(
        [make_session()], SequentialWindowSampler([(0, 30)], [torch.arange(4)], 8, 2, 9), 8, torch.arange(200)
    )
    public = batch.without_privileged()
    assert public.privileged is None
    assert public.privileged_valid is None
    assert len(public.inputs()) == 3
    assert all(torch.equal(a, b) for a, b in zip(public.inputs(), batch.inputs(), strict=True))
