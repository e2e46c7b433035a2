import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from blend_pl.models.layers.padded_linear import PaddedLinear, pad_columns, padded_linear, round_up_to_multiple


@given(size=st.integers(1, 40))
def test_round_up_to_multiple(size: int) -> None:
    assert round_up_to_multiple(size) % 8 == 0
    assert 0 <= round_up_to_multiple(size) - size < 8
    assert pad_columns(torch.ones(2, size)).tolist() == [[1.0] * size + [0.0] * (round_up_to_multiple(size) - size)] * 2


@given(inputs=st.integers(1, 20), outputs=st.integers(1, 20), bias=st.booleans())
def test_equals_linear_on_cpu(inputs: int, outputs: int, bias: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.Linear(inputs, outputs, bias=bias)
    ours = PaddedLinear(inputs, outputs, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(3, 5, inputs)
    mine, other = tokens.clone().requires_grad_(), tokens.clone().requires_grad_()
    out, expected = ours(mine), theirs(other)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    weight = torch.randn(expected.shape)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-4, rtol=0)


@given(inputs=st.integers(1, 20), outputs=st.integers(1, 20), bias=st.booleans())
def test_equals_linear_on_other_devices(inputs: int, outputs: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = PaddedLinear(inputs, outputs, bias=bias).double()
    tokens = torch.randn(3, 5, inputs, dtype=torch.float64, requires_grad=True)
    actual, expected = padded_linear(tokens, linear.weight, linear.bias), linear(tokens)
    torch.testing.assert_close(actual, expected)
    direction = torch.randn_like(expected)
    leaves = [tokens, *linear.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((actual * direction).sum(), leaves),
        torch.autograd.grad((expected * direction).sum(), leaves),
    )


def test_autocast_equals_linear() -> None:
    torch.manual_seed(0)
    linear, tokens = PaddedLinear(13, 9), torch.randn(4, 13, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = linear(tokens)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), linear(tokens), atol=0.02, rtol=0.02)
    out.float().sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32


def test_no_gradient_for_frozen_inputs() -> None:
    linear, tokens = PaddedLinear(5, 6), torch.randn(2, 5)
    linear.weight.requires_grad_(False)
    linear(tokens).sum().backward()
    assert linear.weight.grad is None
    assert linear.bias.grad.tolist() == [2.0] * 6
