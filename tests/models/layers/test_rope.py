"""Rotary position embeddings."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.models.layers.rope import apply_rotary, rotary_cos_sin


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 90))
def test_a_rotated_product_depends_on_the_distance_alone(first: int, second: int, shift: int) -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 8, dtype=torch.float64)

    def product(a: int, b: int) -> float:
        turned = [
            apply_rotary(v, *rotary_cos_sin(torch.tensor(float(t), dtype=torch.float64), 8))
            for v, t in ((q, a), (k, b))
        ]
        return float(turned[0] @ turned[1])

    assert math.isclose(product(first, second), product(first + shift, second + shift), abs_tol=1e-4)


def test_a_rotation_keeps_lengths_and_turns() -> None:
    vector = torch.randn(4, 6)
    turned = apply_rotary(vector, *rotary_cos_sin(torch.arange(4), 6))
    torch.testing.assert_close(turned.norm(dim=-1), vector.norm(dim=-1))
    assert torch.equal(turned[0], vector[0])
    assert not torch.allclose(turned[1], vector[1])
