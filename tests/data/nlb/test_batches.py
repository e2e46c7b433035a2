"""Tests of trial sampling and batches."""

from dataclasses import replace

import pytest
import torch
from helpers.sessions import session_of
from hypothesis import assume, given
from hypothesis import strategies as st

from blend_pl.data.batch import Batch
from blend_pl.data.nlb.batches import TrialLoader, TrialSampler
from blend_pl.data.standardize import Standardizer

SIZES = {"n_trials": st.integers(1, 60), "batch_size": st.integers(1, 9), "world": st.integers(1, 5)}


def samplers(n_trials: int, batch_size: int, world: int, shuffle: bool = True, seed: int = 0) -> list[TrialSampler]:
    return [TrialSampler(n_trials, batch_size, shuffle, seed, rank, world) for rank in range(world)]


@given(**SIZES, shuffle=st.booleans(), epoch=st.integers(0, 3))
def test_ranks_together_yield_every_trial_once_per_epoch(
    n_trials: int, batch_size: int, world: int, shuffle: bool, epoch: int
) -> None:
    seen = []
    for sampler in samplers(n_trials, batch_size, world, shuffle):
        sampler.set_epoch(epoch)
        seen += [index for index, _, _ in sampler]
    assert sorted(torch.cat(seen).tolist()) == list(range(n_trials))


@given(**SIZES)
def test_ranks_have_equally_many_nonempty_batches(n_trials: int, batch_size: int, world: int) -> None:
    batches = [list(sampler) for sampler in samplers(n_trials, batch_size, world)]
    assert len({len(rank) for rank in batches}) == 1
    assert {len(sampler) for sampler in samplers(n_trials, batch_size, world)} == {len(batches[0])}
    sizes = [len(index) for rank in batches for index, _, _ in rank]
    if n_trials >= world:
        assert min(sizes) >= 1
    # A last global batch that is too small is added to the one before.
    assert max(sizes) <= batch_size + 1


@given(**SIZES)
def test_ranks_together_yield_the_global_batch_of_one_process(n_trials: int, batch_size: int, world: int) -> None:
    assume(n_trials >= world)
    divided = [list(sampler) for sampler in samplers(n_trials, batch_size, world)]
    (full,) = samplers(n_trials, batch_size * world, 1)
    order = torch.cat([index for index, _, _ in full])
    start = 0
    for rank_indices in zip(*divided, strict=True):
        size = rank_indices[0][2]
        gathered = torch.full((size,), -1)
        for index, rows, global_size in rank_indices:
            assert global_size == size
            gathered[rows] = index
        assert torch.equal(gathered, order[start : start + size])
        start += size
    assert start == n_trials


def test_order_depends_only_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int, noise: int) -> list[int]:
        torch.manual_seed(noise)
        sampler = TrialSampler(50, 7, True, seed)
        sampler.set_epoch(epoch)
        return torch.cat([index for index, _, _ in sampler]).tolist()

    assert order(3, 2, 0) == order(3, 2, 1)
    assert order(3, 2, 0) != order(3, 3, 0)
    assert order(3, 2, 0) != order(4, 2, 0)
    assert order(3, 2, 0) != sorted(order(3, 2, 0))


def test_trials_are_in_order_without_shuffling() -> None:
    assert torch.equal(torch.cat([index for index, _, _ in TrialSampler(10, 3, False)]), torch.arange(10))


def test_epoch_is_repeatable() -> None:
    sampler = TrialSampler(10, 3, True)
    first, second = ([index.tolist() for index, _, _ in sampler] for _ in range(2))
    assert first == second


def test_no_trials_give_no_batches() -> None:
    assert list(TrialSampler(0, 3, True)) == []


def batches(size: int = 4, rank: int = 0, world: int = 1) -> list[Batch]:
    session = session_of(trials=7)
    session.behavior[2, 1:3, 0] = torch.nan
    session.observed[4, 5:, 1] = False
    sampler = TrialSampler(7, size, False, rank=rank, world_size=world)
    return list(TrialLoader(session, Standardizer.fit(session.behavior), sampler))


def test_batches_contain_the_session() -> None:
    session = session_of(trials=7)
    full = batches(7)[0]
    assert torch.equal(full.target, session.spikes.float())
    assert torch.equal(full.observed, session.spikes[:, :5, :3].float())
    assert torch.equal(full.index, torch.arange(7))
    unscored = ~full.target_valid
    assert unscored.sum() == 2 * 2
    assert unscored[4, 5:, 3:].all()
    assert [len(batch) for batch in batches(4)] == [4, 3]
    assert torch.equal(torch.cat([batch.target for batch in batches(4)]), full.target)


def test_behavior_is_standardized_and_missing_values_are_marked() -> None:
    (batch,) = batches(7)
    assert batch.privileged is not None
    assert batch.privileged_valid is not None
    measured = batch.privileged_valid
    assert (~measured).sum() == 2
    assert not batch.privileged[~measured].any()
    for channel in range(2):
        values = batch.privileged[..., channel][measured[..., channel]]
        assert values.mean().item() == pytest.approx(0, abs=1e-5)
        assert values.std(correction=0).item() == pytest.approx(1, rel=1e-5)


def test_batches_contain_their_global_rows() -> None:
    first, second = batches(3, 0, 2), batches(3, 1, 2)
    assert [batch.global_rows.tolist() for batch in first] == [[0, 2, 4, 6]]
    assert [batch.global_rows.tolist() for batch in second] == [[1, 3, 5]]
    assert first[0].global_size == second[0].global_size == 7


def test_without_privileged_removes_privileged_input() -> None:
    batch = batches()[0]
    public = batch.without_privileged()
    assert public.privileged is None
    assert public.privileged_valid is None
    assert batch.privileged is not None
    assert public == replace(batch, privileged=None, privileged_valid=None)


def test_to_moves_all_tensors() -> None:
    moved = batches()[0].to("meta")
    assert {moved.observed.device.type, moved.target_valid.device.type, moved.global_rows.device.type} == {"meta"}
    assert moved.privileged is not None
    assert moved.privileged.device.type == "meta"
    assert moved.global_size == 4
    assert batches()[0].without_privileged().to("meta").privileged is None
