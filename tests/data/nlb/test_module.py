"""Tests of the data module of NLB'21 sessions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.sessions import TINY, tiny_module

from blend_pl.data.nlb.holdout import holdout_mask
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.spec import SplitSpec
from blend_pl.errors import ConfigError, DataError


def test_subsets_of_the_simulated_session(tiny: NLBDataModule) -> None:
    subsets = tiny.subsets
    assert {name: len(session) for name, session in subsets.items()} == {
        "fit": 19,
        "selection": 5,
        "train": 24,
        "eval": 8,
    }
    fit, selection = (set(subsets[name].trial_id.tolist()) for name in ("fit", "selection"))
    assert fit.isdisjoint(selection)
    assert fit | selection == set(subsets["train"].trial_id.tolist())
    assert fit.isdisjoint(subsets["eval"].trial_id.tolist())
    assert subsets["train"].spikes.shape[1:] == (45, 13)
    assert tiny.signature.n_heldin == TINY.n_heldin
    assert (tiny.signature.n_observed, tiny.signature.n_forward, tiny.signature.n_privileged) == (35, 10, 2)


def test_selection_on_the_reported_trials_uses_all_training_trials(tiny_root: Path) -> None:
    module = tiny_module(tiny_root, selection_split="val")
    assert torch.equal(module.subsets["fit"].trial_id, module.subsets["train"].trial_id)
    assert torch.equal(module.subsets["selection"].trial_id, module.subsets["eval"].trial_id)


def test_phase_test_trains_on_train_and_val(tiny_root: Path) -> None:
    module = tiny_module(tiny_root, phase="test")
    assert (len(module.subsets["train"]), len(module.subsets["eval"])) == (32, 6)
    assert module.subsets["eval"].behavior.isnan().all()
    assert module.subsets["train"].trial_id.diff().min() > 0
    assert not module.subsets["eval"].observed[..., 1].any()


def test_phase_test_with_selection_on_val_raises(tiny_root: Path) -> None:
    with pytest.raises(ConfigError, match="train_holdout"):
        tiny_module(tiny_root, phase="test", selection_split="val")


def test_behavior_is_standardized_on_fit_trials(tiny: NLBDataModule) -> None:
    behavior = tiny.subsets["fit"].behavior.flatten(0, 1).double()
    mean, std = behavior.nanmean(0), (behavior - behavior.nanmean(0)).square().nanmean(0).sqrt()
    for loader, session in [(tiny.val_dataloader(), "selection"), (tiny.predict_dataloader(), "eval")]:
        (batch,) = loader
        expected = ((tiny.subsets[session].behavior.double() - mean) / std).nan_to_num(0).float()
        torch.testing.assert_close(batch.privileged, expected, atol=1e-4, rtol=1e-4)


def test_loaders_cover_their_subsets(tiny: NLBDataModule) -> None:
    def trials(loader: object) -> list[int]:
        return [int(i) for batch in loader for i in batch.index]  # type: ignore[attr-defined]

    assert sorted(trials(tiny.train_dataloader())) == list(range(19))
    assert trials(tiny.train_dataloader()) != list(range(19))
    assert trials(tiny.val_dataloader()) == list(range(5))
    assert [trials(loader) for loader in tiny.test_dataloader().loaders] == [list(range(24)), list(range(8))]
    assert trials(tiny.predict_dataloader()) == list(range(8))
    assert trials(tiny.calibration_dataloader()) == list(range(19))
    assert [len(batch) for batch in tiny.train_dataloader()] == [8, 8, 3]


def test_true_rates_belong_to_the_trials(tiny: NLBDataModule) -> None:
    rates, session = tiny.true_rates("train"), tiny.subsets["train"]
    assert rates is not None
    assert rates.shape == session.spikes.shape
    assert (rates > 0).all()
    log_likelihood = torch.distributions.Poisson(rates).log_prob(session.spikes.float()).mean()
    shifted = torch.distributions.Poisson(rates.roll(1, 0)).log_prob(session.spikes.float()).mean()
    assert log_likelihood > shifted


def test_second_setup_changes_nothing(tiny: NLBDataModule) -> None:
    before = tiny.subsets
    tiny.setup("test")
    assert tiny.subsets is before


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_holdout_of_no_or_all_trials_raises(share: float) -> None:
    with pytest.raises(ConfigError, match="choose another fraction") as raised:
        holdout_mask(20, share)
    assert "\n" not in str(raised.value)


def test_holdout_is_the_same_in_every_run() -> None:
    torch.manual_seed(1)
    first = holdout_mask(50, 0.2)
    torch.manual_seed(2)
    assert torch.equal(first, holdout_mask(50, 0.2))
    assert first.sum() == 10


def test_split_without_evaluated_trials_raises(tiny: NLBDataModule, tiny_root: Path) -> None:
    spec = replace(tiny.spec, split=SplitSpec(column=None, train=1.0, val=0.0))
    module = NLBDataModule(spec, str(tiny_root), 20, source="simulated", simulation=TINY)
    with pytest.raises(DataError, match="no val trials") as raised:
        module.setup("fit")
    assert "\n" not in str(raised.value)
