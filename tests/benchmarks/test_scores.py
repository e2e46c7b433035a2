"""Scoring of a prediction of MC_Maze's size, compared with nlb_tools."""

import time

import numpy as np
import pytest
import torch

from blend_pl.data.nlb.session import SessionTensors, group_columns
from blend_pl.metrics.nlb import evaluate_rates

pytestmark = pytest.mark.benchmark

BINS, FORWARD, UNITS, HELDIN, CONDITIONS = 140, 40, 182, 137, 108


def make_session(trials: int, generator: torch.Generator) -> tuple[SessionTensors, torch.Tensor]:
    rates = torch.rand((trials, BINS + FORWARD, UNITS), generator=generator) * 0.04 + 1e-3
    velocity = rates[:, :, :2] * 1e4 + torch.randn((trials, BINS + FORWARD, 2), generator=generator) * 100
    values = SessionTensors(
        spikes=torch.poisson(rates, generator=generator).to(torch.uint8),
        observed=torch.ones((trials, BINS + FORWARD, 2), dtype=torch.bool),
        scoring_mask=torch.ones(trials, BINS, dtype=torch.bool),
        behavior=velocity,
        trial_id=torch.arange(trials),
        start_bin=torch.arange(trials) * (BINS + FORWARD),
        jitter=torch.zeros(trials, dtype=torch.int64),
        condition=torch.arange(trials) % CONDITIONS,
        decode_mask=torch.ones((trials, 1), dtype=torch.bool),
        timing_condition=torch.full((trials,), -1),
        produced_interval=torch.full((trials,), torch.nan, dtype=torch.float64),
        psth=torch.rand((CONDITIONS, BINS, UNITS), generator=generator, dtype=torch.float64),
        unit_id=torch.arange(UNITS),
        observed_column=group_columns(HELDIN, UNITS),
        n_heldin=HELDIN,
        n_forward=FORWARD,
        n_series=2,
        bin_ms=5,
    )
    return values, rates


def test_scoring_compared_with_nlb_tools() -> None:
    evaluation = pytest.importorskip("nlb_tools.evaluation")
    generator = torch.Generator().manual_seed(0)
    (train, train_rates), (val, val_rates) = make_session(1721, generator), make_session(574, generator)
    start = time.perf_counter()
    ours = evaluate_rates(train, val, (train_rates, val_rates))
    seconds = time.perf_counter() - start

    def numpy(tensor: torch.Tensor) -> np.ndarray:
        return tensor.double().numpy()

    target = {
        "eval_spikes_heldout": numpy(val.spikes[:, :BINS, HELDIN:]),
        "eval_spikes_heldin_forward": numpy(val.spikes[:, BINS:, :HELDIN]),
        "eval_spikes_heldout_forward": numpy(val.spikes[:, BINS:, HELDIN:]),
        "train_behavior": numpy(train.behavior[:, :BINS]),
        "eval_behavior": numpy(val.behavior[:, :BINS]),
        "psth": val.psth.numpy(),
        "eval_cond_idx": np.array([np.flatnonzero(val.condition == c) for c in range(CONDITIONS)], dtype=object),
    }
    submission = {
        "train_rates_heldin": numpy(train_rates[:, :BINS, :HELDIN]),
        "train_rates_heldout": numpy(train_rates[:, :BINS, HELDIN:]),
        "eval_rates_heldin": numpy(val_rates[:, :BINS, :HELDIN]),
        "eval_rates_heldout": numpy(val_rates[:, :BINS, HELDIN:]),
        "eval_rates_heldin_forward": numpy(val_rates[:, BINS:, :HELDIN]),
        "eval_rates_heldout_forward": numpy(val_rates[:, BINS:, HELDIN:]),
    }
    as_files = [{"mc_maze": {key: _Readable(value) for key, value in data.items()}} for data in (target, submission)]
    start = time.perf_counter()
    theirs = evaluation.evaluate(*as_files)[0]["mc_maze_split"]
    reference = time.perf_counter() - start
    names = {"co_bps": "co-bps", "vel_r2": "vel R2", "psth_r2": "psth R2", "fp_bps": "fp-bps"}
    difference = max(abs(ours[key] - theirs[name]) for key, name in names.items())
    print(f"\nfour scores of 1721 + 574 trials: ours {seconds:.2f} s, nlb_tools {reference:.2f} s")
    print(f"ratio: {reference / seconds:.0f} x the time; largest difference {difference:.1e}")
    assert difference < 1e-6


class _Readable:
    """An array with the interface of an h5py dataset, as nlb_tools expects."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __getitem__(self, key: tuple[()]) -> np.ndarray:
        return self.values
