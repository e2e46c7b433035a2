"""What latents say of velocity, and how alike two sets of them are."""

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


def parts(noise: float, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(6, 2))
    latents = {part: rng.normal(size=(n, 6)) * 5 + 100 for part, n in SIZES.items()}
    behavior = {p: x @ weights + noise * rng.normal(size=(len(x), 2)) for p, x in latents.items()}
    return ({p: torch.from_numpy(x).float() for p, x in each.items()} for each in (latents, behavior))  # type: ignore[return-value]


@pytest.mark.parametrize("noise", [0.01, 10.0])
def test_a_read_out_scores_as_linear_regression_does(noise: float) -> None:
    latents, behavior = parts(noise)
    fit = LinearRegression().fit(latents["train"], behavior["train"])
    wanted = r2_score(behavior["test"], fit.predict(latents["test"]))
    assert readout_r2(latents, behavior) == pytest.approx(wanted, abs=0.01)


def test_bins_without_velocity_are_left_out() -> None:
    latents, behavior = parts(1.0)
    wanted = readout_r2(latents, behavior)
    for part, n in SIZES.items():
        spoilt = torch.cat([behavior[part], torch.full((50, 2), torch.nan)])
        latents[part], behavior[part] = torch.cat([latents[part], torch.full((50, 6), 1e6)]), spoilt
        assert len(spoilt) == n + 50
    assert readout_r2(latents, behavior) == pytest.approx(wanted, abs=1e-9)


def test_latents_that_say_nothing_score_nothing() -> None:
    _, behavior = parts(1.0)
    rng = np.random.default_rng(9)
    noise = {part: torch.from_numpy(rng.normal(size=(n, 40))) for part, n in SIZES.items()}
    assert readout_r2(noise, behavior) < 0.05
    constant = {part: torch.ones(n, 3) for part, n in SIZES.items()}
    assert readout_r2(constant, behavior) < 0.05


def test_a_part_without_velocity_is_told() -> None:
    latents, behavior = parts(1.0)
    behavior["val"] = behavior["val"] * torch.nan
    with pytest.raises(DataError, match="fewer than two bins of the val segments"):
        readout_r2(latents, behavior)


def test_alignment_knows_rotations_and_strangers() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 5)) * [3, 1, 1, 1, 1]
    turned = torch.from_numpy(2 * x @ ortho_group.rvs(5, random_state=0) + 7)
    first, stranger = torch.from_numpy(x), torch.from_numpy(rng.normal(size=(800, 5)))
    assert linear_cka(first, turned) == pytest.approx(1)
    assert linear_cka(first, stranger) < 0.05
    centred = x - x.mean(0)
    other = stranger.numpy() - stranger.numpy().mean(0)
    kernels = centred @ centred.T, other @ other.T
    wanted = (kernels[0] * kernels[1]).sum() / np.linalg.norm(kernels[0]) / np.linalg.norm(kernels[1])
    assert linear_cka(first, stranger) == pytest.approx(wanted)


def test_retrieval_counts_the_rows_that_are_found() -> None:
    keys = torch.eye(8)
    assert retrieval_accuracy(3 * keys, keys, stride=1) == 1
    assert retrieval_accuracy(keys.roll(1, 0), keys, stride=1) == 0
    assert retrieval_accuracy(torch.cat([keys[:4], keys[:4]]), keys, stride=1) == 0.5
