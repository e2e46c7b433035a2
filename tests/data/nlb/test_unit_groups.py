"""Tests of units that are chosen by fold or by rate."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.sessions import session_of, tiny_module
from helpers.specs import MC_MAZE
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.nlb.folds import Fold
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.nlb.spec import HeldOutSpec, SessionSpec
from blend_pl.data.nlb.unit_groups import firing_rates_hz, regroup_units, rotated_units, units_above
from blend_pl.errors import ConfigError, DataError
from blend_pl.utils.digests import shared_digest

RNG = np.random.default_rng(0)
SPIKES, BEHAVIOR = RNG.poisson(0.5, (40, 12, 8)), RNG.normal(size=(40, 12, 2))


def arrays_module(spikes: Any = SPIKES, **options: Any) -> NLBDataModule:
    module = NLBDataModule.from_arrays(spikes, BEHAVIOR, bin_ms=20, **options)
    module.setup("fit")
    return module


def partly_observed(seed: int) -> SessionTensors:
    """Returns a session of 3 + 2 units, each of which has its own recorded bins."""
    generator, session = torch.Generator().manual_seed(seed), session_of()
    by_unit = torch.rand(6, 7, 5, generator=generator) < 0.7
    groups = torch.stack([by_unit[..., :3].all(-1), by_unit[..., 3:].all(-1)], -1)
    return replace(
        session,
        observed=torch.cat([groups, by_unit], -1),
        observed_column=torch.arange(5) + 2,
        spikes=session.spikes * by_unit,
        scoring_mask=by_unit[:, :5, :3].any(-1),
    )


@given(seed=st.integers(0, 99), held_in=st.sets(st.integers(0, 4), min_size=1), partial=st.booleans())
def test_regrouped_units_keep_their_spikes_and_recorded_bins(seed: int, held_in: set[int], partial: bool) -> None:
    session = partly_observed(seed) if partial else session_of()
    held_out = sorted(set(range(5)) - held_in)
    regrouped = regroup_units(session, torch.tensor(sorted(held_in)), torch.tensor(held_out, dtype=torch.int64))
    order, trials = [*sorted(held_in), *held_out], torch.arange(6)
    assert regrouped.unit_id.tolist() == order
    assert regrouped.n_heldin == len(held_in)
    assert torch.equal(regrouped.spikes, session.spikes[..., order])
    valid = regrouped.valid_mask(trials)
    assert torch.equal(valid, session.valid_mask(trials)[..., order])
    assert torch.equal(regrouped.observed[..., 0], valid[..., : len(held_in)].all(-1))
    if held_out:
        assert torch.equal(regrouped.observed[..., 1], valid[..., len(held_in) :].all(-1))
    assert torch.equal(regrouped.scoring_mask, session.scoring_mask & valid[:, :5, : len(held_in)].any(-1))


@given(n_units=st.integers(2, 40), count=st.integers(2, 8), seed=st.integers(0, 9))
def test_every_unit_is_held_out_in_one_fold(n_units: int, count: int, seed: int) -> None:
    if count > n_units:
        with pytest.raises(ConfigError, match=f"choose at most {n_units} folds"):
            rotated_units(n_units, Fold(1, count), seed)
        return
    held_out = []
    for number in range(1, count + 1):
        held_in, out = rotated_units(n_units, Fold(number, count), seed)
        assert sorted([*held_in.tolist(), *out.tolist()]) == list(range(n_units))
        assert len(held_in)
        held_out += out.tolist()
    assert sorted(held_out) == list(range(n_units))


def test_held_out_units_rotate_over_folds() -> None:
    modules = [arrays_module(held_out="by_fold", fold=f"{number}/4") for number in (1, 2, 3, 4)]
    held_out = [module.signature.unit_id[module.signature.n_heldin :] for module in modules]
    assert sorted(unit for units in held_out for unit in units) == list(range(8))
    for module in modules:
        scored = module.subsets["eval"]
        expected = SPIKES[scored.trial_id.numpy()][..., scored.unit_id.numpy()]
        assert np.array_equal(scored.spikes.numpy(), expected)
    digests = [str(module.digest) for module in modules]
    assert len(set(digests)) == 4
    assert len({shared_digest(digest) for digest in digests}) == 1


def tiny_spec(**held_out: Any) -> SessionSpec:
    return replace(MC_MAZE, name="tiny", held_out=HeldOutSpec(**held_out))


def module_with(root: Path, spec: SessionSpec, **changes: Any) -> NLBDataModule:
    like = tiny_module(root)
    module = NLBDataModule(
        spec, str(root), bin_ms=20, batch_size=8, source="simulated", simulation=like.simulation, **changes
    )
    module.setup("fit")
    return module


def test_true_rates_are_those_of_the_chosen_units(tiny_root: Path) -> None:
    reference = tiny_module(tiny_root)
    rates = reference.true_rates("train")
    assert rates is not None
    by_unit = dict(zip(reference.signature.unit_id, rates.unbind(-1), strict=True))
    for spec, fold in (
        (tiny_spec(fraction=0), None),
        (tiny_spec(by_fold=True), "4/4"),
        (tiny_spec(column=None, fraction=0.3), None),
    ):
        module = module_with(tiny_root, spec, fold=fold)
        chosen = module.true_rates("train")
        assert chosen is not None
        rows = [
            (row, reference.subsets["train"].trial_id.tolist().index(trial))
            for row, trial in enumerate(module.subsets["train"].trial_id.tolist())
            if trial in reference.subsets["train"].trial_id
        ]
        assert rows
        for unit, unit_rates in zip(module.signature.unit_id, chosen.unbind(-1), strict=True):
            for row, reference_row in rows:
                assert torch.equal(unit_rates[row], by_unit[unit][reference_row])


def test_fraction_zero_observes_all_units(tiny_root: Path) -> None:
    module = module_with(tiny_root, tiny_spec(fraction=0))
    assert module.signature.n_heldin == module.signature.n_units == 13
    reference = tiny_module(tiny_root).subsets["eval"]
    scored = module.subsets["eval"]
    order = [reference.unit_id.tolist().index(unit) for unit in scored.unit_id.tolist()]
    assert torch.equal(scored.spikes, reference.spikes[..., order])
    assert torch.equal(scored.valid_mask(torch.arange(8)), reference.valid_mask(torch.arange(8))[..., order])
    (batch,) = module.predict_dataloader()
    assert batch.observed.shape[2] == batch.target.shape[2] == 13


def test_rotation_without_fold_raises() -> None:
    with pytest.raises(ConfigError, match=r"set data\.fold, as in 1/5"):
        arrays_module(held_out="by_fold")


def test_firing_rates_count_recorded_bins() -> None:
    session = partly_observed(0)
    valid = session.valid_mask(torch.arange(6))
    expected = session.spikes.double().sum((0, 1)) / (valid.sum((0, 1)) * 0.02)
    torch.testing.assert_close(firing_rates_hz(session), expected)


def test_units_below_the_rate_in_training_trials_are_left_out() -> None:
    spikes = SPIKES.copy()
    labels = np.array(["train"] * 30 + ["val"] * 10)
    spikes[:30, :, 2] = 0
    spikes[30:, :, 5] = 0
    spikes[:30, :, 7] = 0
    options: dict[str, Any] = {"split": labels, "held_out": [6, 7], "min_rate_hz": 1.0}
    with pytest.warns(UserWarning, match="2 of 8 units have fewer than 1 spikes per second in the training trials"):
        module = arrays_module(spikes, **options)
    assert module.signature.unit_id == (0, 1, 3, 4, 5, 6)
    assert module.signature.n_heldin == 5
    # The spikes of scored trials change nothing.
    spikes[30:] = 0
    assert arrays_module(spikes, **options).signature == module.signature


def test_minimum_rate_changes_the_digest_only_if_it_is_set() -> None:
    without, zero, low = (
        arrays_module(**options).digest for options in ({}, {"min_rate_hz": 0.0}, {"min_rate_hz": 0.1})
    )
    assert without == zero != low


def test_minimum_rate_that_leaves_no_unit_raises() -> None:
    with pytest.raises(DataError, match=r"none of 6 held-in units has 1000 .* decrease data\.spec\.min_rate_hz"):
        arrays_module(min_rate_hz=1000.0)
    with pytest.raises(DataError, match="none of 2 held-out units"):
        units_above(replace(session_of(), spikes=session_of().spikes * torch.tensor([1, 1, 1, 0, 0])), 1.0)
