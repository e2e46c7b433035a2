import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from blend_pl.models.transformer import SelfAttention, TransformerLayer, attention_window


@given(bins=st.integers(1, 12), forward=st.integers(-1, 13), backward=st.integers(-1, 13))
def test_window_follows_the_rule_pair_by_pair(bins: int, forward: int, backward: int) -> None:
    window = attention_window(bins, forward, backward)
    for i in range(bins):
        for j in range(bins):
            ahead = forward < 0 or j - i <= forward
            behind = backward < 0 or i - j <= backward
            assert (True if window is None else bool(window[i, j])) == (ahead and behind)


@pytest.mark.parametrize(("width", "heads"), [(8, 2), (12, 3), (6, 1)])
@pytest.mark.parametrize(("forward", "backward"), [(-1, -1), (1, 3), (0, -1)])
def test_attention_equals_torch_where_heads_divide_the_width(
    width: int, heads: int, forward: int, backward: int
) -> None:
    torch.manual_seed(0)
    ours, theirs = SelfAttention(width, heads, 0.0), nn.MultiheadAttention(width, heads, batch_first=True)
    with torch.no_grad():
        nn.init.normal_(ours.qkv.bias)
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    tokens = torch.randn(3, 9, width)
    window = attention_window(9, forward, backward)
    expected, _ = theirs(tokens, tokens, tokens, attn_mask=None if window is None else ~window)
    torch.testing.assert_close(ours(tokens, window), expected, atol=1e-5, rtol=0)


@given(width=st.integers(1, 11), heads=st.integers(1, 6))
def test_any_number_of_heads_fits_any_width(width: int, heads: int) -> None:
    layer = TransformerLayer(width, heads, 4, 0.0)
    tokens = torch.randn(2, 5, width)
    out = layer(tokens, attention_window(5, 1, 1))
    assert out.shape == tokens.shape
    assert out.isfinite().all()
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize(("forward", "backward"), [(0, 2), (2, 0), (1, 1)])
def test_bins_outside_the_window_have_no_influence(forward: int, backward: int) -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(6, 2, 8, 0.0)
    tokens = torch.randn(1, 9, 6, requires_grad=True)
    bin_ = 4
    layer(tokens, attention_window(9, forward, backward))[0, bin_].sum().backward()
    assert tokens.grad is not None
    seen = {j for j in range(9) if tokens.grad[0, j].abs().sum() > 0}
    assert seen == set(range(bin_ - backward, bin_ + forward + 1))


def test_fixup_scales_the_residual_branches_alone() -> None:
    layer = TransformerLayer(6, 2, 8, 0.0)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.scale_fixup(4)
    scaled = {"feedforward.linear1.weight", "feedforward.linear2.weight", "attention.out_proj.weight"}
    for name, value in layer.state_dict().items():
        factor = 0.67 / math.sqrt(2) if name in scaled else 1.0
        torch.testing.assert_close(value, before[name] * factor)


def test_attention_weights_drop_out_in_training_only() -> None:
    torch.manual_seed(0)
    attention, tokens = SelfAttention(4, 2, 0.5), torch.randn(2, 8, 4)
    assert not torch.equal(attention(tokens, None), attention(tokens, None))
    attention.eval()
    assert torch.equal(attention(tokens, None), attention(tokens, None))
