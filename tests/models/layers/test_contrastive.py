import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from blend_pl.masking import Masking
from blend_pl.models.layers.contrastive import ContrastiveLoss, nt_xent

CORRUPTION = Masking(0.3, "full", zero_ratio=0.5, random_ratio=0.5)
STRETCHES = Masking(0.3, zero_ratio=0.5, random_ratio=0.5, max_span=4)


@given(trials=st.integers(1, 6), width=st.integers(1, 5), temperature=st.floats(0.05, 2), seed=st.integers(0, 99))
def test_nt_xent_matches_definition(trials: int, width: int, temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, trials, width, generator=generator, dtype=torch.double)
    views = [*first, *second]

    def similarity(a: Tensor, b: Tensor) -> float:
        return math.exp(float(a @ b / (a.norm() * b.norm())) / temperature)

    def loss(i: int) -> float:
        others = sum(similarity(views[i], view) for j, view in enumerate(views) if j != i)
        return -math.log(similarity(views[i], views[(i + trials) % (2 * trials)]) / others)

    expected = [(loss(i) + loss(i + trials)) / 2 for i in range(trials)]
    assert nt_xent(first, second, temperature).tolist() == pytest.approx(expected, abs=1e-9)


def test_nt_xent_is_lower_for_matching_views() -> None:
    views = torch.eye(4)
    assert nt_xent(views, views, 0.1).max() < 0.01
    assert nt_xent(views, views.roll(1, 0), 0.1).min() > 5


def test_loss_is_weighted_sum_over_streams() -> None:
    torch.manual_seed(0)
    streams = torch.randn(8, 5, 3), torch.randn(8, 4, 2)
    expected = 0.25 * sum(nt_xent(s[:4].flatten(1), s[4:].flatten(1), 0.5) for s in streams)
    torch.testing.assert_close(ContrastiveLoss(0.25, 0.5).weighted_loss(*streams), expected)


def test_views_are_two_corruptions_of_same_trials() -> None:
    torch.manual_seed(0)
    counts = torch.randint(1, 5, (6, 20, 30)).float()
    changed = ContrastiveLoss(corruption=CORRUPTION).augment(counts).view(2, 6, 20, 30) != counts
    # Half of the masked entries become zero; a quarter becomes a random count, which can equal the original.
    assert changed.float().mean().item() == pytest.approx(0.3 * (0.5 + 0.25 * 0.8), rel=0.1)
    assert not torch.equal(changed[0], changed[1])


@pytest.mark.parametrize("corruption", [CORRUPTION, STRETCHES])
def test_views_depend_on_default_generator(corruption: Masking) -> None:
    contrast, counts = ContrastiveLoss(corruption=corruption), torch.rand(4, 5, 3)

    def views(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return contrast.augment(counts)

    assert torch.equal(views(1), views(1))
    assert not torch.equal(views(1), views(2))
