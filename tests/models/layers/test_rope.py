"""Rotary position embeddings."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.models.layers.rope import apply_rotary, rotary_cos_sin


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 90))
def test_rotated_product_depends_on_relative_time(first: int, second: int, shift: int) -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 8, dtype=torch.float64)

    def product(a: int, b: int) -> float:
        rotated = [
            apply_rotary(v, *rotary_cos_sin(torch.tensor(float(t), dtype=torch.float64), 8))
            for v, t in ((q, a), (k, b))
        ]
        return float(rotated[0] @ rotated[1])

    assert math.isclose(product(first, second), product(first + shift, second + shift), abs_tol=1e-4)


def test_rotation_preserves_norm() -> None:
    vector = torch.randn(4, 6)
    rotated = apply_rotary(vector, *rotary_cos_sin(torch.arange(4), 6))
    torch.testing.assert_close(rotated.norm(dim=-1), vector.norm(dim=-1))
    assert torch.equal(rotated[0], vector[0])
    assert not torch.allclose(rotated[1], vector[1])
