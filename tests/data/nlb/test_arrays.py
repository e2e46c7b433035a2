"""Tests of data modules of arrays in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.systems import make, make_teacher, save, trainer
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blend_pl.callbacks import NLBEvaluation
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.session import SessionTensors, concatenate_trials
from blend_pl.errors import BlendError, ConfigError, DataError
from blend_pl.metrics.nlb import evaluate_rates
from blend_pl.systems.checkpoint import load_system

RNG = np.random.default_rng(0)
SPIKES = RNG.poisson(0.6, (30, 12, 8))
BEHAVIOR = RNG.normal(size=(30, 12, 2))
SPLIT = ["train"] * 20 + ["val"] * 7 + ["test"] * 2 + ["none"]
FIELDS = ("spikes", "observed", "scoring_mask", "behavior", "condition", "decode_mask", "unit_id", "jitter")


def module_of(spikes: Any = SPIKES, behavior: Any = BEHAVIOR, **options: Any) -> NLBDataModule:
    module = NLBDataModule.from_arrays(spikes, behavior, **{"bin_ms": 20, "split": SPLIT, "batch_size": 8, **options})
    module.setup("fit")
    return module


def assert_equal(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def all_trials(module: NLBDataModule) -> tuple[SessionTensors, list[str]]:
    train, evaluation = module.subsets["train"], module.subsets["eval"]
    is_train = torch.isin(concatenate_trials(train, evaluation).trial_id, train.trial_id)
    return concatenate_trials(train, evaluation), ["train" if train_trial else "val" for train_trial in is_train]


def test_arrays_of_a_session_give_its_tensors_batches_and_scores(tiny: NLBDataModule) -> None:
    session, split = all_trials(tiny)
    rates = {name: tiny.true_rates(name) for name in ("train", "eval")}
    order = torch.cat([tiny.subsets[name].trial_id for name in rates]).argsort()
    module = module_of(
        session.spikes,
        session.behavior,
        forward_ms=200,
        held_out=range(session.n_heldin, session.n_units),
        split=split,
        conditions=session.condition,
        smoothing_ms=70,
        unit_id=session.unit_id,
        rates=torch.cat([rate for rate in rates.values() if rate is not None])[order],
        name="tiny",
    )
    assert module.signature == tiny.signature
    assert module.selection == tiny.selection
    for name, subset in tiny.subsets.items():
        for field in FIELDS:
            assert_equal(getattr(module.subsets[name], field), getattr(subset, field))
    for ours, theirs in zip(module.train_dataloader(), tiny.train_dataloader(), strict=True):
        for field in ("observed", "target", "target_valid", "index", "privileged", "privileged_valid"):
            assert_equal(getattr(ours, field), getattr(theirs, field))
    scores = []
    for each in (module, tiny):
        true_rates = (each.true_rates("train"), each.true_rates("eval"))
        assert true_rates[0] is not None
        assert true_rates[1] is not None
        scores.append(evaluate_rates(each.subsets["train"], each.subsets["eval"], (true_rates[0], true_rates[1])))
    # Files are smoothed in milliseconds and beyond the window, arrays in bins of it.
    assert scores[0].pop("psth_r2") == pytest.approx(scores[1].pop("psth_r2"), abs=0.03)
    assert scores[0] == pytest.approx(scores[1], abs=1e-12)


@given(
    counts=arrays(np.uint8, (4, 6, 3), elements=st.integers(0, 5)).filter(np.any),
    lengths=st.lists(st.integers(1, 6), min_size=4, max_size=4),
    held_out=st.sampled_from([None, 0.3, [1], [True, False, True]]),
)
@settings(max_examples=30, deadline=None)
def test_lists_are_padded_with_unobserved_bins(counts: np.ndarray, lengths: list[int], held_out: Any) -> None:
    trials = [trial[:length] for trial, length in zip(counts, lengths, strict=True)]
    if not any(trial.any() for trial in trials):
        return
    padded = np.full((4, max(lengths), 3), np.nan)
    for row, trial in enumerate(trials):
        padded[row, : len(trial)] = trial
    options: dict[str, Any] = {"behavior": None, "split": ["train", "train", "val", "val"], "holdout": 0.5}
    from_list, from_array = (
        module_of(spikes, held_out=held_out, **options) for spikes in (trials, torch.from_numpy(padded))
    )
    for name, subset in from_array.subsets.items():
        assert_equal(from_list.subsets[name].spikes, subset.spikes)
        assert_equal(from_list.subsets[name].observed, subset.observed)
    evaluation = from_list.subsets["eval"]
    bins = torch.arange(max(lengths)) < torch.tensor(lengths)[2:, None]
    assert_equal(evaluation.scoring_mask, bins)
    assert_equal(evaluation.valid_mask(torch.arange(2)), bins[..., None].expand(2, max(lengths), 3))
    order = [*np.flatnonzero(~held_out_mask(held_out)), *np.flatnonzero(held_out_mask(held_out))]
    expected = np.nan_to_num(padded)[2:][..., order]
    assert np.array_equal(evaluation.spikes.numpy(), expected)


def held_out_mask(held_out: Any) -> np.ndarray:
    mask = np.zeros(3, dtype=bool)
    if isinstance(held_out, float):
        mask[np.random.default_rng(0).choice(3, 1)] = True
    elif held_out is not None:
        mask[held_out] = True
    return mask


def test_units_are_unobserved_where_their_counts_are_nan() -> None:
    spikes = SPIKES.astype(float)
    spikes[3, 2:5, 1] = spikes[:9, :, 6] = spikes[21, :4] = np.nan
    module = module_of(spikes, held_out=[6, 7])
    session, order = module.arrays.tensors, [0, 1, 2, 3, 4, 5, 6, 7]  # type: ignore[union-attr]
    assert_equal(session.valid_mask(torch.arange(30)), torch.from_numpy(~np.isnan(spikes[..., order])))
    assert session.observed.shape[-1] == 3
    assert not session.observed[3, 2:5, 0].any()
    assert not session.scoring_mask[21, :4].any()
    assert session.scoring_mask[3].all()
    assert_equal(session.select(torch.tensor([3])).valid_mask(torch.tensor([0])), session.valid_mask(torch.tensor([3])))


def test_unobserved_entries_change_neither_training_nor_scores(tmp_path: Path) -> None:
    """Counts and behavior in padding are replaced after reading, where reading sets them to 0 and NaN."""
    lengths = RNG.integers(4, 13, 30)
    trials, behavior = ([each[:n] for each, n in zip(values, lengths, strict=True)] for values in (SPIKES, BEHAVIOR))
    results = []
    for garbage in (False, True):
        module = module_of(trials, behavior, conditions=np.arange(30) % 3, held_out=[2, 5])
        if garbage:
            for name, subset in module.subsets.items():
                valid = subset.valid_mask(torch.arange(len(subset)))
                heldin_input = torch.zeros_like(valid)
                heldin_input[..., : subset.n_heldin] = True
                subset.spikes[~valid & ~heldin_input] = 9
                assert not subset.spikes[~valid & heldin_input].any(), name
        torch.manual_seed(0)
        student, evaluation = make(), NLBEvaluation()
        fitting = trainer(tmp_path, 1, evaluation)
        fitting.fit(student, datamodule=module)
        fitting.test(student, datamodule=module, verbose=False)
        results.append(evaluation.scores)
    assert {"co_bps", "vel_r2", "psth_r2"} <= results[0].keys()
    assert results[0] == results[1]


def test_psth_is_the_mean_of_a_condition_without_smoothing() -> None:
    spikes = SPIKES.astype(float)
    spikes[0, :3, 4] = spikes[4, 10:] = np.nan
    conditions = ["b", "a", None, "b", *["a", "b"] * 12, "c", "c"]
    module = module_of(spikes, held_out=None, conditions=conditions, smoothing_ms=1)
    psth, labels = module.subsets["eval"].psth, np.array(conditions, dtype=object)
    # Test trials and trials without a split do not enter the averages.
    assert len(psth) == 2
    for row, label in enumerate("ab"):
        trials = spikes[:27][labels[:27] == label]
        expected = np.nanmean(trials, axis=0)
        expected[np.isnan(trials).all(axis=2).any(axis=0)] = np.nan
        np.testing.assert_allclose(psth[row].numpy(), expected, atol=1e-12)
    assert module.arrays.tensors.condition.tolist()[:4] == [1, 0, -1, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize("phase", ["val", "test"])
def test_phase_selects_the_scored_trials(phase: Any) -> None:
    module = module_of(phase=phase)
    expected = {"val": (range(20), range(20, 27)), "test": (range(27), range(27, 29))}[phase]
    assert [module.subsets[name].trial_id.tolist() for name in ("train", "eval")] == [list(each) for each in expected]


def test_fractions_draw_the_same_split_for_the_same_seed() -> None:
    trials = [module_of(split=(0.5, 0.2), seed=seed).subsets["train"].trial_id.tolist() for seed in (1, 1, 2)]
    assert trials[0] == trials[1] != trials[2]
    assert len(trials[0]) == 15


def test_values_of_trials_become_constant_channels() -> None:
    target = np.array(["left", "right", "up"] * 10, dtype=object)
    target[4] = None
    module = module_of(SPIKES, None, trial_behavior={"speed": np.arange(30), "target": target})
    behavior = module.arrays.tensors.behavior  # type: ignore[union-attr]
    assert behavior.shape == (30, 12, 4)
    assert behavior[7, :, 0].tolist() == [7.0] * 12
    assert behavior[7, 0, 1:].tolist() == [0, 1, 0]
    assert behavior[4, 0, 1:].isnan().all()
    assert module.arrays.tensors.n_series == 0  # type: ignore[union-attr]


def test_behavior_of_one_channel_needs_no_last_axis() -> None:
    module = module_of(SPIKES, BEHAVIOR[..., 0])
    assert_equal(module.subsets["eval"].behavior, module_of(SPIKES, BEHAVIOR[..., :1]).subsets["eval"].behavior)


def test_true_rates_follow_their_trials_and_units() -> None:
    rates = np.broadcast_to(np.arange(30)[:, None, None] * 0.04 + np.arange(8) * 0.005, SPIKES.shape)
    module = module_of(rates=rates, held_out=[0])
    actual = module.true_rates("eval")
    assert actual is not None
    np.testing.assert_allclose(actual.numpy(), rates[20:27][..., [1, 2, 3, 4, 5, 6, 7, 0]], rtol=1e-6)
    assert module_of().true_rates("eval") is None


def test_checkpoint_of_arrays_fits_the_same_arrays_only(tmp_path: Path) -> None:
    teacher, fitting = make_teacher(), trainer(tmp_path)
    fitting.fit(teacher, datamodule=module_of())
    path = save(teacher, tmp_path / "teacher.ckpt")
    loaded = load_system(path)
    predictions = fitting.predict(loaded, module_of())
    assert predictions is not None
    assert torch.cat(predictions).shape == (7, 12, 8)  # type: ignore[arg-type]
    assert loaded.signature == module_of().signature != module_of(held_out=[1]).signature


def constant(value: float) -> np.ndarray:
    changed = SPIKES.astype(float)
    changed[2, 3, 4] = value
    return changed


ZSCORED = (SPIKES - SPIKES.mean()) / SPIKES.std()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: module_of(bin_ms=0), ConfigError, "bin_ms is 0"),
        (lambda: module_of(bin_ms=2.5), ConfigError, "bin_ms is 2.5"),
        (lambda: module_of(forward_ms=30), ConfigError, "multiple of bin_ms"),
        (lambda: module_of(forward_ms=240), ConfigError, "trials have 240 ms"),
        (lambda: module_of(constant(0.5)), DataError, "trial 2, bin 3, unit 4; counts must be whole"),
        (lambda: module_of(constant(-1)), DataError, "cannot be negative"),
        (lambda: module_of(constant(np.inf)), DataError, "value inf"),
        (lambda: module_of(ZSCORED), DataError, "z-scored"),
        (lambda: module_of(SPIKES.astype(str)), DataError, "expected numbers"),
        (lambda: module_of(SPIKES * 0), DataError, "spikes are 0"),
        (lambda: module_of(SPIKES[0]), DataError, r"shape \(12, 8\); expected \(trials, bins, units\)"),
        (lambda: module_of(7), DataError, "of type int"),
        (lambda: module_of([]), DataError, "no trials"),
        (lambda: module_of(SPIKES[:1]), DataError, "at least 2 trials"),
        (lambda: module_of([[[0.1, 0.2], [0.3]], [[0.2], [0.1]]]), DataError, "look like spike times"),
        (lambda: module_of([SPIKES[0], SPIKES[1, 0]]), DataError, r"spikes\[1\] has the shape \(8,\)"),
        (lambda: module_of([SPIKES[0], SPIKES[1, :, :5]]), DataError, "has 8 units and spikes"),
        (lambda: module_of(np.where(np.arange(8) == 3, np.nan, SPIKES)), DataError, "unit 3 of spikes is NaN"),
        (lambda: module_of(SPIKES.swapaxes(1, 2)), DataError, "transpose them"),
        (lambda: module_of(SPIKES, BEHAVIOR[:, :9]), DataError, r"behavior has \(trials, bins\) \(30, 9\)"),
        (
            lambda: module_of(list(SPIKES), [b[: 12 - (i == 4)] for i, b in enumerate(BEHAVIOR)]),
            DataError,
            "behavior.4.",
        ),
        (lambda: module_of(SPIKES, BEHAVIOR[:, 0]), DataError, "constant over a trial"),
        (lambda: module_of(SPIKES, BEHAVIOR / 0), DataError, "infinite"),
        (lambda: module_of(SPIKES, BEHAVIOR * np.array([1, np.nan])), DataError, "channel 1 of behavior"),
        (lambda: module_of(trial_behavior=np.arange(29)), DataError, "one row per trial"),
        (lambda: module_of(trial_behavior={"a": [1, "b"] * 15}), DataError, "a of trial_behavior mixes strings and 1"),
        (lambda: module_of(trial_behavior={"a": np.array([1j] * 30)}), DataError, "expected numbers or strings"),
        (lambda: module_of(held_out=1.5), ConfigError, "held_out is 1.5"),
        (lambda: module_of(held_out="heldout"), ConfigError, "held_out is 'heldout'"),
        (lambda: module_of(held_out=[3, 8]), ConfigError, "index 8; spikes have the units 0 to 7"),
        (lambda: module_of(held_out=[-1]), ConfigError, "index -1"),
        (lambda: module_of(held_out=range(8)), ConfigError, "selects all 8 units"),
        (lambda: module_of(held_out=[True, False]), ConfigError, "mask of 2 units"),
        (lambda: module_of(split=(0.9, 0.3)), ConfigError, "fractions"),
        (lambda: module_of(split=[*SPLIT[:-1], "valid"]), DataError, "label 'valid'"),
        (lambda: module_of(split=SPLIT[:-1]), DataError, "29 labels, and spikes have 30 trials"),
        (lambda: module_of(split=["val"] * 30), DataError, "no training trials"),
        (lambda: module_of(split=["train"] * 30), DataError, "no val trials"),
        (lambda: module_of(conditions=[1, 2]), DataError, "conditions has 2 labels"),
        (lambda: module_of(conditions=[{}] * 30), DataError, "not hashable"),
        (lambda: module_of(conditions=[None] * 30), DataError, "no label"),
        (lambda: module_of(conditions=[1] * 30, smoothing_ms=0), ConfigError, "smoothing_ms is 0"),
        (lambda: module_of(unit_id=[1] * 8), DataError, "8 different integers"),
        (lambda: module_of(rates=SPIKES[:, :5]), DataError, "rates have the shape"),
        (lambda: module_of(rates=SPIKES * 0.0 - 1), DataError, "negative"),
        (lambda: module_of(rates=np.full(SPIKES.shape, 30.0)), DataError, "rates in Hz"),
        (lambda: module_of(trials=[0.0, 1.0]), ConfigError, "belong to spike times"),
        (lambda: module_of(window_ms=100), ConfigError, "belong to spike times"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_invalid_arrays_raise_one_line(
    make: Callable[[], NLBDataModule], error: type[BlendError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
