from dataclasses import replace

import pytest
import torch
from helpers.sessions import session_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blend_pl.data.batch import Batch
from blend_pl.data.nlb.batches import Standardizer, TrialLoader, TrialSampler

SIZES = {"n_trials": st.integers(1, 60), "batch_size": st.integers(1, 9), "world": st.integers(1, 5)}


def samplers(n_trials: int, batch_size: int, world: int, shuffle: bool = True, seed: int = 0) -> list[TrialSampler]:
    return [TrialSampler(n_trials, batch_size, shuffle, seed, rank, world) for rank in range(world)]


@given(**SIZES, shuffle=st.booleans(), epoch=st.integers(0, 3))
def test_every_trial_once_per_epoch_over_all_ranks(
    n_trials: int, batch_size: int, world: int, shuffle: bool, epoch: int
) -> None:
    seen = []
    for sampler in samplers(n_trials, batch_size, world, shuffle):
        sampler.set_epoch(epoch)
        seen += [index for index, _, _ in sampler]
    assert sorted(torch.cat(seen).tolist()) == list(range(n_trials))


@given(**SIZES)
def test_ranks_have_equally_many_batches_and_none_is_empty(n_trials: int, batch_size: int, world: int) -> None:
    batches = [list(sampler) for sampler in samplers(n_trials, batch_size, world)]
    assert len({len(rank) for rank in batches}) == 1
    assert {len(sampler) for sampler in samplers(n_trials, batch_size, world)} == {len(batches[0])}
    sizes = [len(index) for rank in batches for index, _, _ in rank]
    if n_trials >= world:
        assert min(sizes) >= 1
    # A last global batch that is too small is added to the one before.
    assert max(sizes) <= batch_size + 1


@given(**SIZES)
def test_ranks_together_hold_the_global_batch_of_one_process(n_trials: int, batch_size: int, world: int) -> None:
    assume(n_trials >= world)
    divided = [list(sampler) for sampler in samplers(n_trials, batch_size, world)]
    (whole,) = samplers(n_trials, batch_size * world, 1)
    order = torch.cat([index for index, _, _ in whole])
    start = 0
    for parts in zip(*divided, strict=True):
        size = parts[0][2]
        gathered = torch.full((size,), -1)
        for index, rows, global_size in parts:
            assert global_size == size
            gathered[rows] = index
        assert torch.equal(gathered, order[start : start + size])
        start += size
    assert start == n_trials


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, noise: int) -> list[int]:
        torch.manual_seed(noise)
        sampler = TrialSampler(50, 7, True, seed)
        sampler.set_epoch(epoch)
        return torch.cat([index for index, _, _ in sampler]).tolist()

    assert order(3, 2, 0) == order(3, 2, 1)
    assert order(3, 2, 0) != order(3, 3, 0)
    assert order(3, 2, 0) != order(4, 2, 0)
    assert order(3, 2, 0) != sorted(order(3, 2, 0))


def test_without_shuffling_trials_come_in_order() -> None:
    assert torch.equal(torch.cat([index for index, _, _ in TrialSampler(10, 3, False)]), torch.arange(10))


def test_an_epoch_can_be_read_twice() -> None:
    sampler = TrialSampler(10, 3, True)
    first, second = ([index.tolist() for index, _, _ in sampler] for _ in range(2))
    assert first == second


def test_no_trials_no_batches() -> None:
    assert list(TrialSampler(0, 3, True)) == []


@settings(deadline=None)
@given(missing=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_z_score_ignores_gaps(missing: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    behavior = 5 + 3 * torch.randn(4, 30, 2, generator=generator)
    gaps = torch.rand(4, 30, 2, generator=generator) < missing
    behavior[gaps] = torch.nan
    fitted = Standardizer.fit(behavior)
    for channel in range(2):
        known = behavior[..., channel][~gaps[..., channel]].double()
        assert fitted.mean[channel].item() == pytest.approx(known.mean().item(), rel=1e-5)
        assert fitted.std[channel].item() == pytest.approx(known.std(correction=0).item(), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 12345.678])
def test_constant_series_is_only_centred(value: float) -> None:
    fitted = Standardizer.fit(torch.full((30, 31, 1), value))
    assert fitted.std.item() == 1
    assert fitted.mean.item() == pytest.approx(value)


def test_small_deviations_around_a_large_mean_count() -> None:
    behavior = 100 + 0.01 * torch.randn(50, 20, 1, generator=torch.Generator().manual_seed(0))
    assert Standardizer.fit(behavior).std.item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("behavior", [torch.full((3, 4, 2), torch.nan), torch.empty(3, 4, 0), torch.empty(0, 4, 2)])
def test_no_values_at_all(behavior: torch.Tensor) -> None:
    fitted = Standardizer.fit(behavior)
    assert fitted.mean.tolist() == [0.0] * behavior.shape[-1]
    assert fitted.std.tolist() == [1.0] * behavior.shape[-1]


def test_infinities_are_gaps() -> None:
    behavior = torch.tensor([1.0, 3.0, torch.inf, -torch.inf]).view(1, 4, 1)
    fitted = Standardizer.fit(behavior)
    assert (fitted.mean.item(), fitted.std.item()) == (2.0, 1.0)


def batches(size: int = 4, rank: int = 0, world: int = 1) -> list[Batch]:
    session = session_of(trials=7)
    session.behavior[2, 1:3, 0] = torch.nan
    session.observed[4, 5:, 1] = False
    sampler = TrialSampler(7, size, False, rank=rank, world_size=world)
    return list(TrialLoader(session, Standardizer.fit(session.behavior), sampler))


def test_batches_hold_the_session() -> None:
    session = session_of(trials=7)
    whole = batches(7)[0]
    assert torch.equal(whole.target, session.spikes.float())
    assert torch.equal(whole.observed, session.spikes[:, :5, :3].float())
    assert torch.equal(whole.index, torch.arange(7))
    unscored = ~whole.target_valid
    assert unscored.sum() == 2 * 2
    assert unscored[4, 5:, 3:].all()
    assert [len(batch) for batch in batches(4)] == [4, 3]
    assert torch.equal(torch.cat([batch.target for batch in batches(4)]), whole.target)


def test_behaviour_is_standardised_and_its_gaps_are_marked() -> None:
    (batch,) = batches(7)
    assert batch.privileged is not None
    assert batch.privileged_valid is not None
    known = batch.privileged_valid
    assert (~known).sum() == 2
    assert not batch.privileged[~known].any()
    for channel in range(2):
        values = batch.privileged[..., channel][known[..., channel]]
        assert values.mean().item() == pytest.approx(0, abs=1e-5)
        assert values.std(correction=0).item() == pytest.approx(1, rel=1e-5)


def test_ranks_say_which_rows_they_hold() -> None:
    first, second = batches(3, 0, 2), batches(3, 1, 2)
    assert [batch.global_rows.tolist() for batch in first] == [[0, 2, 4, 6]]
    assert [batch.global_rows.tolist() for batch in second] == [[1, 3, 5]]
    assert first[0].global_size == second[0].global_size == 7


def test_public_batch_has_no_privileged_information() -> None:
    batch = batches()[0]
    public = batch.without_privileged()
    assert public.privileged is None
    assert public.privileged_valid is None
    assert batch.privileged is not None
    assert public == replace(batch, privileged=None, privileged_valid=None)


def test_batch_moves_as_a_whole() -> None:
    moved = batches()[0].to("meta")
    assert {moved.observed.device.type, moved.target_valid.device.type, moved.global_rows.device.type} == {"meta"}
    assert moved.privileged is not None
    assert moved.privileged.device.type == "meta"
    assert moved.global_size == 4
    assert batches()[0].without_privileged().to("meta").privileged is None
