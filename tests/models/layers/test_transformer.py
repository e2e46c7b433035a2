import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.models.layers.attention import AttentionWindow
from blend_pl.models.layers.transformer import TransformerLayer


@given(width=st.integers(1, 11), heads=st.integers(1, 6))
def test_any_number_of_heads_and_width(width: int, heads: int) -> None:
    layer = TransformerLayer(width, heads, 4, 0.0)
    tokens = torch.randn(2, 5, width)
    out = layer(tokens, AttentionWindow(5, 1, 1))
    assert out.shape == tokens.shape
    assert out.isfinite().all()
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize(("forward", "backward"), [(0, 2), (2, 0), (1, 1)])
def test_bins_outside_window_have_no_influence(forward: int, backward: int) -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(6, 2, 8, 0.0)
    tokens = torch.randn(1, 9, 6, requires_grad=True)
    bin_ = 4
    layer(tokens, AttentionWindow(9, forward, backward))[0, bin_].sum().backward()
    assert tokens.grad is not None
    seen = {j for j in range(9) if tokens.grad[0, j].abs().sum() > 0}
    assert seen == set(range(bin_ - backward, bin_ + forward + 1))


def test_fixup_scales_only_residual_branches() -> None:
    layer = TransformerLayer(6, 2, 8, 0.0)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.scale_fixup(4)
    scaled = {"feedforward.linear1.weight", "feedforward.linear2.weight", "attention.out_proj.weight"}
    for name, value in layer.state_dict().items():
        factor = 0.67 / math.sqrt(2) if name in scaled else 1.0
        torch.testing.assert_close(value, before[name] * factor)
