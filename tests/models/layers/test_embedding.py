import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.models.layers.embedding import (
    CountEmbedding,
    IdentityEmbedding,
    LearnedPositions,
    LinearEmbedding,
    SinusoidalPositions,
)


def test_identity_embedding_returns_counts() -> None:
    counts = torch.randn(2, 3, 5)
    assert IdentityEmbedding(5).d_model == 5
    assert torch.equal(IdentityEmbedding(5)(counts), counts)


@pytest.mark.parametrize(("width", "expected"), [(None, 5), (7, 7)])
def test_linear_embedding_has_width(width: int | None, expected: int) -> None:
    embedding = LinearEmbedding(5, width)
    assert embedding.d_model == expected
    assert embedding(torch.ones(2, 3, 5)).shape == (2, 3, expected)


def test_count_embedding_looks_up_each_neuron() -> None:
    embedding = CountEmbedding(3, size=2, max_count=4)
    counts = torch.tensor([[[0.0, 1.0, 4.0], [2.0, 9.0, 0.0]]])
    table = embedding.embedding.weight
    expected = torch.stack([torch.cat([table[0], table[1], table[4]]), torch.cat([table[2], table[4], table[0]])])
    assert embedding.d_model == 6
    assert torch.equal(embedding(counts)[0], expected)


@pytest.mark.parametrize("std", [1.0, 0.1])
def test_learned_positions_have_initial_std(std: float) -> None:
    torch.manual_seed(0)
    positions = LearnedPositions(100, 60, std)()
    assert positions.requires_grad
    assert positions.std().item() == pytest.approx(std, rel=0.05)


@given(bins=st.integers(1, 20), width=st.integers(1, 9))
def test_sinusoids_match_definition(bins: int, width: int) -> None:
    positions = SinusoidalPositions(bins, width)()
    assert positions.shape == (bins, width)
    for t in range(bins):
        for k in range(width):
            angle = t / 10_000 ** ((k - k % 2) / width)
            expected = math.cos(angle) if k % 2 else math.sin(angle)
            assert positions[t, k].item() == pytest.approx(expected, abs=1e-5)


def test_sinusoids_are_not_in_state_dict() -> None:
    assert SinusoidalPositions(4, 3).state_dict() == {}
