"""All scores of a session against nlb_tools."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.nlb import SETS, nlb_dataset, nlb_targets
from torch import Tensor

from blend_pl.data.nlb.reading import read_session
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.metrics.nlb import NLBScores, evaluate_rates

evaluation = pytest.importorskip("nlb_tools.evaluation", reason="needs the extra nlb")

NLB_TOOLS_KEYS = {
    "co_bps": "co-bps",
    "vel_r2": "vel R2",
    "tp_corr": "tp corr",
    "psth_r2": "psth R2",
    "fp_bps": "fp-bps",
}


def make_rates(session: SessionTensors, seed: int) -> Tensor:
    """Returns smoothed spikes with noise; some rates are zero, and one unit is silent."""
    generator = torch.Generator().manual_seed(seed)
    counts = session.spikes.double()
    smooth = torch.nn.functional.avg_pool1d(counts.transpose(1, 2), 9, 1, 4, count_include_pad=False).transpose(1, 2)
    rates = 0.5 * smooth + 0.5 * counts.mean((0, 1)) + 0.02 * torch.rand(counts.shape, generator=generator)
    rates[torch.rand(rates.shape, generator=generator) < 0.01] = 0.0
    rates[..., session.n_heldin] = 0.0
    return rates


def submission(session: SessionTensors, rates: Tensor, name: str) -> dict[str, np.ndarray]:
    n, t = session.n_heldin, session.n_observed
    arrays = {
        f"{name}_rates_heldin": rates[:, :t, :n],
        f"{name}_rates_heldout": rates[:, :t, n:],
        f"{name}_rates_heldin_forward": rates[:, t:, :n],
        f"{name}_rates_heldout_forward": rates[:, t:, n:],
    }
    # nlb_tools reads arrays with [()] and modifies them.
    return {key: array.clone().numpy() for key, array in arrays.items()}


@pytest.mark.parametrize("bin_ms", [5, 20])
@pytest.mark.parametrize("name", SETS)
def test_all_scores_equal_nlb_tools(name: str, bin_ms: int, tmp_path: Path) -> None:
    spec, write = SETS[name]
    files = write(tmp_path)
    session = read_session(spec, files.train, None, bin_ms)
    train, val = session["train"], session["val"]
    rates = make_rates(train, 0), make_rates(val, 1)
    targets = nlb_targets(nlb_dataset(files.train, bin_ms), spec)
    (group,) = targets
    half: dict[str, Any] = {k: v.astype(np.float16) if "spikes" in k else v for k, v in targets[group].items()}
    submitted = submission(train, rates[0], "train") | submission(val, rates[1], "eval")
    (expected,) = evaluation.evaluate({group: half}, {group: submitted})[0].values()

    scores = evaluate_rates(train, val, rates)
    assert {NLB_TOOLS_KEYS[key] for key in scores} == set(expected)
    for key, value in scores.items():
        assert abs(value - expected[NLB_TOOLS_KEYS[key]]) < 1e-6, key
        assert abs(value) > 1e-3, key


@pytest.mark.parametrize("name", SETS)
def test_scores_do_not_depend_on_batches(name: str, tmp_path: Path) -> None:
    spec, write = SETS[name]
    files = write(tmp_path)
    session = read_session(spec, files.train, None, 20)
    subsets = session["train"], session["val"]
    rates = make_rates(subsets[0], 0), make_rates(subsets[1], 1)
    expected, scores = evaluate_rates(*subsets, rates), NLBScores(*subsets)
    for subset in (0, 1):
        order = torch.randperm(len(subsets[subset]), generator=torch.Generator().manual_seed(subset))
        for index in order.split(7):
            scores.update(rates[subset][index], index, is_train=subset == 0)
    for key, value in scores.compute().items():
        assert value == pytest.approx(expected[key], abs=1e-9), key
