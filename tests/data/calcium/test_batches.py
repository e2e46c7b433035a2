from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.calcium import recording_of

from blend_pl.data.calcium.batches import CalciumLoader, RandomWindowSampler, SequentialWindowSampler
from blend_pl.data.calcium.population import CalciumSession, build_calcium_session

SPANS = [(0, 30), (5, 12)]
CELLS = [torch.arange(0, 20, 2), torch.arange(7)]


def random_windows(seed: int = 0, rank: int = 0, world_size: int = 1, **sizes: int) -> RandomWindowSampler:
    return RandomWindowSampler(SPANS, CELLS, **{"n_steps": 40, "n_windows": 3, "n_cells": 6, **sizes}, seed=seed, rank=rank,
                         world_size=world_size)  # fmt: skip


def test_windows_stay_within_their_span_and_cells_within_their_side() -> None:
    cuts = list(random_windows())
    assert len(cuts) == 40
    assert {cut.session for cut in cuts} == {0, 1}
    for cut in cuts:
        first, last = SPANS[cut.session]
        assert ((cut.starts >= first) & (cut.starts <= last)).all()
        assert set(cut.cells.tolist()) <= set(CELLS[cut.session].tolist())
        assert len(set(cut.cells.tolist())) == len(cut.cells) == 6
        assert len(cut.starts) == 3
    starts = torch.cat([cut.starts for cut in cuts if cut.session == 1])
    assert (starts.min(), starts.max()) == SPANS[1]


def test_an_epoch_is_drawn_from_seed_and_epoch_alone() -> None:
    def drawn(seed: int, epoch: int) -> list[list[int]]:
        plan = random_windows(seed)
        plan.set_epoch(epoch)
        return [[cut.session, *cut.starts.tolist(), *cut.cells.tolist()] for cut in plan]

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(1, 3)
    assert drawn(1, 2) != drawn(2, 2)


def test_ranks_share_a_batch() -> None:
    ranks = [list(random_windows(rank=rank, world_size=3, n_windows=2)) for rank in range(3)]
    alone = list(random_windows(n_windows=6))
    for whole, *parts in zip(alone, *ranks, strict=True):
        assert all(torch.equal(part.cells, whole.cells) and part.session == whole.session for part in parts)
        assert all(torch.equal(part.starts, whole.starts[part.global_rows]) for part in parts)
        assert sorted(torch.cat([part.global_rows for part in parts]).tolist()) == list(range(6))
        assert {part.global_size for part in parts} == {6}


def test_a_recording_without_cells_is_never_drawn() -> None:
    plan = RandomWindowSampler(SPANS, [torch.arange(0), torch.arange(3)], 20, 1, 6)
    assert {cut.session for cut in plan} == {1}
    assert {cut.session for cut in SequentialWindowSampler(SPANS, [torch.arange(0), torch.arange(3)], 4, 2, 2)} == {1}


@pytest.mark.parametrize("world_size", [1, 2])
def test_every_window_of_every_cell_comes_once(world_size: int) -> None:
    seen = []
    for rank in range(world_size):
        for cut in SequentialWindowSampler(SPANS, CELLS, 4, 3, 6, rank, world_size):
            seen += [(cut.session, int(start), int(cell)) for start in cut.starts for cell in cut.cells]
    expected = [
        (recording, start, int(cell))
        for recording, (first, last) in enumerate(SPANS)
        for start in range(first, last + 1, 4)
        for cell in CELLS[recording]
    ]
    assert sorted(seen) == expected
    starts = sorted({start for recording, start, _ in seen if recording == 0})
    assert all(b - a == 4 for a, b in pairwise(starts))


def population() -> CalciumSession:
    return build_calcium_session(recording_of([f"c{i}" for i in range(20)]), np.arange(20) + 100, 0.75, 65.0)


def test_a_batch_is_what_the_recording_holds() -> None:
    whole = population()
    table = torch.arange(200) * 3
    plan = RandomWindowSampler([(0, 30)], [torch.arange(20)], 2, 2, 5)
    for cut, batch in zip(plan, CalciumLoader([whole], plan, 8, table), strict=True):
        for window, start in enumerate(cut.starts.tolist()):
            frames = slice(start, start + 8)
            assert torch.equal(batch.observed[window], whole.activity[frames][:, cut.cells])
            assert torch.equal(batch.target_valid[window], whole.valid[frames][:, cut.cells])
            assert torch.equal(batch.population_context[window], whole.population_context[frames][:, cut.cells])
            assert batch.privileged is not None
            assert torch.equal(batch.privileged[window], whole.behavior[frames])
        assert torch.equal(batch.embedding_index, table[100 + cut.cells])
        assert torch.equal(batch.target, batch.observed)
        assert torch.equal(batch.index, cut.starts)


def test_the_public_part_holds_no_behaviour() -> None:
    (batch, *_) = CalciumLoader(
        [population()], SequentialWindowSampler([(0, 30)], [torch.arange(4)], 8, 2, 9), 8, torch.arange(200)
    )
    public = batch.without_privileged()
    assert public.privileged is None
    assert public.privileged_valid is None
    assert len(public.inputs()) == 3
    assert all(torch.equal(a, b) for a, b in zip(public.inputs(), batch.inputs(), strict=True))
