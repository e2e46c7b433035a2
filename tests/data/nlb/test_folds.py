"""Tests of the folds of a session."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.sessions import session_of, tiny_module
from helpers.small_nwb import small_session, write_small
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.io.contents import read_contents
from blend_pl.data.nlb.folds import Fold, describe_fold, divide_fold
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.proposal import propose_spec
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.nlb.spec import SplitSpec, WindowSpec
from blend_pl.errors import ConfigError, DataError
from blend_pl.utils.digests import shared_digest

LENGTH = 7
"""Observed and forward bins of `session_of`."""

RNG = np.random.default_rng(0)
SPIKES, BEHAVIOR = RNG.poisson(0.5, (40, 12, 8)), RNG.normal(size=(40, 12, 2))


def session_at(starts: list[int]) -> SessionTensors:
    return replace(session_of(len(starts)), start_bin=torch.tensor(starts))


def bins_of(session: SessionTensors) -> set[int]:
    return {int(start) + bin_ for start in session.start_bin for bin_ in range(LENGTH)}


def arrays_module(fold: str | None, **options: object) -> NLBDataModule:
    module = NLBDataModule.from_arrays(SPIKES, BEHAVIOR, bin_ms=20, fold=fold, **options)  # type: ignore[arg-type]
    module.setup("fit")
    return module


@given(starts=st.lists(st.integers(0, 400), min_size=4, max_size=40), count=st.integers(2, 6), data=st.data())
def test_blocks_are_contiguous_and_share_no_bin_with_training_trials(
    starts: list[int], count: int, data: st.DataObject
) -> None:
    session = session_at(starts)
    fold = Fold(data.draw(st.integers(1, count)), count)
    try:
        trials = divide_fold(session, fold)
    except (ConfigError, DataError):
        return
    assert not bins_of(trials.train) & bins_of(trials.scored)
    assert len(trials.train) + len(trials.scored) + trials.n_left_out == len(session)
    left_out = set(range(len(session))) - {*trials.train.trial_id.tolist(), *trials.scored.trial_id.tolist()}
    scored_bins = bins_of(trials.scored)
    assert all(bins_of(session.select(torch.tensor([trial]))) & scored_bins for trial in left_out)
    first, last = trials.scored.start_bin.min(), trials.scored.start_bin.max()
    assert not ((trials.train.start_bin > first) & (trials.train.start_bin < last)).any()


@given(starts=st.lists(st.integers(0, 4000), min_size=6, max_size=40, unique=True), count=st.integers(2, 6))
def test_every_trial_is_scored_in_one_fold(starts: list[int], count: int) -> None:
    session = session_at([LENGTH * start for start in starts])
    blocks = [divide_fold(session, Fold(number, count)).scored for number in range(1, count + 1)]
    assert sorted(trial for block in blocks for trial in block.trial_id.tolist()) == list(range(len(starts)))
    assert {len(block) for block in blocks} <= {len(starts) // count, -(-len(starts) // count)}
    assert all(before.start_bin.max() < after.start_bin.min() for before, after in pairwise(blocks))


def test_continuous_windows_leave_a_gap_on_both_sides() -> None:
    trials = divide_fold(session_at(list(range(0, 150, 3))), Fold(2, 5))
    assert trials.scored.trial_id.tolist() == list(range(10, 20))
    assert trials.train.trial_id.tolist() == [*range(8), *range(22, 50)]
    assert describe_fold(Fold(2, 5), trials) == (
        "4 of 50 trials share bins with the scored block of fold 2/5 and are not used for training"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/5", r"data\.fold is 0/5; the folds are 1/5 to 5/5"),
        ("6/5", r"data\.fold is 6/5; the folds are 1/5 to 5/5"),
        ("1/1", "at least two folds"),
        ("1/0", "at least two folds"),
        ("two", "as in 2/5"),
        ("-1/5", "as in 2/5"),
        ("2/5/5", "as in 2/5"),
        ("1.5/5", "as in 2/5"),
    ],
)
def test_invalid_folds_raise(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        arrays_module(text)


def test_more_folds_than_trials_raise() -> None:
    with pytest.raises(ConfigError, match=r"data\.fold is 1/99, and there are 34 trials; choose at most 34 folds"):
        arrays_module("1/99")


def test_folds_of_phase_test_raise() -> None:
    with pytest.raises(ConfigError, match=r"set data\.phase to val"):
        arrays_module("1/5", phase="test")


def test_folds_of_windows_in_one_chain_raise() -> None:
    with pytest.raises(DataError, match="choose fewer folds"):
        divide_fold(session_at([0, 1, 2, 3]), Fold(1, 2))


def test_training_trials_without_behavior_raise() -> None:
    behavior = BEHAVIOR.copy()
    behavior[20:] = np.nan
    module = NLBDataModule.from_arrays(SPIKES, behavior, bin_ms=20, split=(0.9, 0.1), fold="1/2")
    with pytest.raises(DataError, match=r"arrays, fold 1/2, has 0 bins with behavior in the training trials"):
        module.setup("fit")


def test_selection_is_drawn_from_the_training_trials() -> None:
    modules = [arrays_module(f"{number}/4") for number in (1, 2, 3, 4)]
    for module in modules:
        fit, selection, train, scored = (
            set(module.subsets[name].trial_id.tolist()) for name in ("fit", "selection", "train", "eval")
        )
        assert fit | selection == train
        assert not fit & selection
        assert not train & scored
    assert sum(len(module.subsets["eval"]) for module in modules) == 34
    # Trials of fold blocks differ in number, and reports pool runs with equal descriptions.
    assert {module.selection for module in modules} == {"train_holdout (0.2 of the training trials)"}


def test_test_trials_are_in_no_fold() -> None:
    without = arrays_module(None)
    assert without.arrays is not None
    test_trials = set(np.flatnonzero(without.arrays.split == "test").tolist())
    assert test_trials
    for number in (1, 2):
        subsets = arrays_module(f"{number}/2").subsets
        assert not test_trials & {*subsets["train"].trial_id.tolist(), *subsets["eval"].trial_id.tolist()}


def test_folds_share_the_digest_of_their_recording() -> None:
    first, again, second, of_three = (arrays_module(fold).digest for fold in ("1/2", "1/2", "2/2", "1/3"))
    without = arrays_module(None).digest
    assert first is not None
    assert second is not None
    assert of_three is not None
    assert first == again != second
    assert shared_digest(first) == shared_digest(second)
    assert len({without, shared_digest(first), shared_digest(of_three)}) == 3


def test_true_rates_belong_to_the_trials_of_the_fold(tiny_root: Path) -> None:
    module, without = tiny_module(tiny_root, fold="3/4"), tiny_module(tiny_root)
    assert len(module.subsets["eval"]) == 8
    rates, all_rates = module.true_rates("eval"), without.true_rates("train")
    assert rates is not None
    assert all_rates is not None
    for trial, trial_rates in zip(module.subsets["eval"].trial_id.tolist(), rates, strict=True):
        rows = (without.subsets["train"].trial_id == trial).nonzero()[:, 0]
        for row in rows:
            assert torch.equal(trial_rates, all_rates[row])
    assert "phase val, fold 3/4; trials: " in str(module)


def test_continuous_recording_of_a_proposed_spec_is_divided(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", small_session(n_trials=24))
    spec = propose_spec(read_contents(path)).spec
    window = WindowSpec(0, 400, None, forward_ms=0, stride_ms=100)
    split = SplitSpec(None, by="block", train=0.8, val=0.2)
    spec = replace(spec, window=window, split=split, psth=None, behavior=None, trials=None)
    module = NLBDataModule(spec, str(tmp_path), bin_ms=20, fold="2/3")
    with pytest.warns(UserWarning, match="share bins with the scored block of fold 2/3"):
        module.setup("fit")
    bins = {
        name: {int(start) + bin_ for start in session.start_bin for bin_ in range(20)}
        for name, session in module.subsets.items()
    }
    assert not bins["train"] & bins["eval"]
    assert not bins["fit"] & bins["selection"]
    assert min(bins["train"]) < min(bins["eval"]) < max(bins["eval"]) < max(bins["train"])
