from dataclasses import replace
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blend_pl.errors import RangeError
from blend_pl.likelihoods import Poisson
from blend_pl.masking import Masking

Mode = Literal["timestep", "neuron", "full"]
MODES: tuple[Mode, ...] = ("timestep", "neuron", "full")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def corrupt(masking: Masking, observed: Tensor, hidden: Tensor, seed: int = 0) -> Tensor:
    trials, bins, neurons = observed.shape
    chance = replace(masking.sample((trials, bins, neurons), seeded(seed)), masked=hidden)
    return chance.corrupt(observed, Poisson().noise)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("max_span", [1, 7])
def test_fraction_of_masked_entries_is_ratio(mode: Mode, ratio: float, max_span: int) -> None:
    masking = Masking(ratio, mode, max_span=max_span)
    size = (40, 25, 20)
    share = torch.stack([masking.draw_mask(size, seeded(seed)).float().mean() for seed in range(60)]).mean()
    assert share.item() == pytest.approx(ratio, abs=0.02)


def test_fraction_of_each_trial_is_uniform_between_two_ratios() -> None:
    shares = Masking((0.2, 0.6), "full").draw_mask((500, 40, 30), seeded()).float().mean((1, 2))
    assert shares.min().item() == pytest.approx(0.2, abs=0.05)
    assert shares.max().item() == pytest.approx(0.6, abs=0.05)
    assert shares.mean().item() == pytest.approx(0.4, abs=0.02)
    assert shares.std().item() == pytest.approx(0.4 / 12**0.5, abs=0.02)


def test_ratio_beyond_one_raises() -> None:
    with pytest.raises(RangeError, match=r"masking\.ratio"):
        Masking((0.2, 1.5))


def test_spans_mask_all_bins_equally_often() -> None:
    masking = Masking(0.4, max_span=6)
    hidden = torch.stack([masking.draw_mask((200, 10, 1), seeded(seed)) for seed in range(60)]).float()
    assert hidden.mean((0, 1, 3)).tolist() == pytest.approx([0.4] * 10, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 6)),
    ratio=st.floats(0, 1),
    mode=st.sampled_from(MODES),
    max_span=st.integers(1, 12),
    zero_ratio=st.floats(0, 1),
    random_ratio=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_any_shape_is_supported(
    size: tuple[int, int, int],
    ratio: float,
    mode: Mode,
    max_span: int,
    zero_ratio: float,
    random_ratio: float,
    seed: int,
) -> None:
    masking = Masking(ratio, mode, zero_ratio, random_ratio, max_span)
    hidden = masking.draw_mask(size, seeded(seed))
    assert hidden.shape == size
    assert hidden.dtype == torch.bool
    assert torch.equal(hidden, masking.draw_mask(size, seeded(seed)))
    if mode == "timestep":
        assert torch.equal(hidden.all(2), hidden.any(2))
    if mode == "neuron":
        assert torch.equal(hidden.all(1), hidden.any(1))
    observed = torch.randint(0, 5, size).float()
    corrupted = corrupt(masking, observed, hidden, seed)
    assert torch.equal(corrupted[~hidden], observed[~hidden])
    assert torch.equal(corrupted, corrupted.floor())
    assert ((corrupted >= 0) & (corrupted <= 4)).all()
    if zero_ratio == 1:
        assert not corrupted[hidden].any()


def test_modes_mask_bins_neurons_or_entries() -> None:
    size = (10, 30, 20)
    timestep, neuron, full = (Masking(0.5, mode).draw_mask(size, seeded()) for mode in MODES)
    assert not torch.equal(timestep.all(1), timestep.any(1))
    assert not torch.equal(neuron.all(2), neuron.any(2))
    assert not torch.equal(full.all(2), full.any(2))
    assert not torch.equal(full.all(1), full.any(1))


def test_mask_depends_on_seed() -> None:
    masking = Masking()
    assert not torch.equal(masking.draw_mask((4, 30, 5), seeded(0)), masking.draw_mask((4, 30, 5), seeded(1)))


@pytest.mark.parametrize(("zero_ratio", "random_ratio"), [(0.8, 0.5), (0.3, 0.0), (0.0, 1.0), (0.5, 1.0)])
def test_fractions_of_zero_random_and_unchanged_entries(zero_ratio: float, random_ratio: float) -> None:
    observed = torch.full((50, 40, 25), 9.0)
    hidden = torch.ones_like(observed, dtype=torch.bool)
    corrupted = corrupt(Masking(zero_ratio=zero_ratio, random_ratio=random_ratio), observed, hidden)
    # Random counts are uniform in 0 .. 9: one in ten is zero, and one in ten equals the original count.
    randomized = (1 - zero_ratio) * random_ratio
    unchanged = (1 - zero_ratio) * (1 - random_ratio)
    counts = corrupted.flatten().long().bincount(minlength=10) / corrupted.numel()
    expected = [zero_ratio + randomized / 10, *[randomized / 10] * 8, unchanged + randomized / 10]
    assert counts.tolist() == pytest.approx(expected, abs=0.01)


def test_corruption_does_not_change_input() -> None:
    observed = torch.ones(3, 4, 5)
    corrupt(Masking(zero_ratio=0.5), observed, torch.ones_like(observed, dtype=torch.bool))
    assert torch.equal(observed, torch.ones(3, 4, 5))


@pytest.mark.parametrize("world", [2, 3])
def test_corruption_does_not_depend_on_world_size(world: int) -> None:
    observed = torch.randint(0, 6, (7, 8, 4), generator=seeded()).float()
    observed[3] = 40.0
    masking = Masking(0.5, "full", zero_ratio=0.2, random_ratio=0.9)
    hidden = masking.draw_mask((7, 8, 4), seeded(3))
    full = corrupt(masking, observed, hidden, 5)
    for rank in range(world):
        rows = torch.arange(rank, 7, world)
        chance = replace(masking.sample((7, 8, 4), seeded(5)), masked=hidden).select(rows)
        part = chance.corrupt(observed[rows], Poisson().noise)
        assert torch.equal(part, full[rows])


def longest_masked_run(hidden: Tensor) -> int:
    """Returns the longest_masked_run run of masked bins of the first neuron over trials."""
    best = 0
    for trial in hidden[..., 0].tolist():
        run = 0
        for value in trial:
            run = run + 1 if value else 0
            best = max(best, run)
    return best


def span_fraction(masking: Masking, epoch: int) -> float:
    """Returns the fraction of batches with long spans; the ratio is too small for adjacent single bins."""
    drawn = [longest_masked_run(masking.draw_mask((400, 30, 1), seeded(seed), epoch)) > 1 for seed in range(200)]
    return sum(drawn) / len(drawn)


@pytest.mark.parametrize(("epoch", "share"), [(0, 0.0), (10, 0.0), (15, 0.5), (20, 1.0), (99, 1.0)])
def test_span_probability_follows_ramp(epoch: int, share: float) -> None:
    masking = Masking(0.0005, max_span=5, span_ramp=(10, 20))
    # Four of the five lengths 1 .. 5 are longer than one bin.
    assert span_fraction(masking, epoch) == pytest.approx(0.8 * share, abs=0.12)


def test_ramp_of_zero_length_is_a_step() -> None:
    masking = Masking(0.0005, max_span=5, span_ramp=(5, 5))
    assert span_fraction(masking, 0) < 0.1
    assert span_fraction(masking, 4) < 0.1
    assert span_fraction(masking, 5) > 0.6


def test_spans_without_ramp_are_always_used() -> None:
    assert span_fraction(Masking(0.0005, max_span=5), 0) > 0.6


@pytest.mark.parametrize(
    "settings_",
    [{"ratio": 1.2}, {"ratio": -0.1}, {"zero_ratio": 2}, {"random_ratio": -1}, {"max_span": 0}, {"span_ramp": (9, 3)}],
)
def test_invalid_settings_raise(settings_: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"masking.{next(iter(settings_))}"):
        Masking(**settings_)  # type: ignore[arg-type]


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_fraction_of_trials_without_behavior_is_privileged_dropout(ratio: float) -> None:
    forgotten = torch.stack(
        [Masking(privileged_dropout=ratio).draw_privileged_dropout(50, seeded(seed)) for seed in range(40)]
    )
    assert forgotten.float().mean().item() == pytest.approx(ratio, abs=0.03)
