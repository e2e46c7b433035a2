"""Readout of velocity from latents, and similarity of latents."""

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from blend_pl.errors import DataError
from blend_pl.metrics.alignment import linear_cka, retrieval_accuracy
from blend_pl.metrics.readout import readout_r2

SIZES = {"train": 4000, "val": 300, "test": 500}


def make(noise: float, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(6, 2))
    latents = {subset: rng.normal(size=(n, 6)) * 5 + 100 for subset, n in SIZES.items()}
    behavior = {subset: x @ weights + noise * rng.normal(size=(len(x), 2)) for subset, x in latents.items()}
    return (
        {subset: torch.from_numpy(x).float() for subset, x in latents.items()},
        {subset: torch.from_numpy(y).float() for subset, y in behavior.items()},
    )


@pytest.mark.parametrize("noise", [0.01, 10.0])
def test_readout_scores_like_linear_regression(noise: float) -> None:
    latents, behavior = make(noise)
    fit = LinearRegression().fit(latents["train"], behavior["train"])
    expected = r2_score(behavior["test"], fit.predict(latents["test"]))
    assert readout_r2(latents, behavior) == pytest.approx(expected, abs=0.01)


def test_bins_without_velocity_are_ignored() -> None:
    latents, behavior = make(1.0)
    expected = readout_r2(latents, behavior)
    for subset, n in SIZES.items():
        extended = torch.cat([behavior[subset], torch.full((50, 2), torch.nan)])
        latents[subset], behavior[subset] = torch.cat([latents[subset], torch.full((50, 6), 1e6)]), extended
        assert len(extended) == n + 50
    assert readout_r2(latents, behavior) == pytest.approx(expected, abs=1e-9)


def test_uninformative_latents_score_near_zero() -> None:
    _, behavior = make(1.0)
    rng = np.random.default_rng(9)
    noise = {subset: torch.from_numpy(rng.normal(size=(n, 40))) for subset, n in SIZES.items()}
    assert readout_r2(noise, behavior) < 0.05
    constant = {subset: torch.ones(n, 3) for subset, n in SIZES.items()}
    assert readout_r2(constant, behavior) < 0.05


def test_subset_without_velocity_raises() -> None:
    latents, behavior = make(1.0)
    behavior["val"] = behavior["val"] * torch.nan
    with pytest.raises(DataError, match="fewer than two bins of the val segments"):
        readout_r2(latents, behavior)


def test_cka_is_one_for_rotations_and_near_zero_for_unrelated_latents() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 5)) * [3, 1, 1, 1, 1]
    rotated = torch.from_numpy(2 * x @ ortho_group.rvs(5, random_state=0) + 7)
    first, unrelated = torch.from_numpy(x), torch.from_numpy(rng.normal(size=(800, 5)))
    assert linear_cka(first, rotated) == pytest.approx(1)
    assert linear_cka(first, unrelated) < 0.05
    centered = x - x.mean(0)
    other = unrelated.numpy() - unrelated.numpy().mean(0)
    kernels = centered @ centered.T, other @ other.T
    expected = (kernels[0] * kernels[1]).sum() / np.linalg.norm(kernels[0]) / np.linalg.norm(kernels[1])
    assert linear_cka(first, unrelated) == pytest.approx(expected)


def test_retrieval_accuracy_is_the_fraction_of_retrieved_rows() -> None:
    keys = torch.eye(8)
    assert retrieval_accuracy(3 * keys, keys, stride=1) == 1
    assert retrieval_accuracy(keys.roll(1, 0), keys, stride=1) == 0
    assert retrieval_accuracy(torch.cat([keys[:4], keys[:4]]), keys, stride=1) == 0.5
