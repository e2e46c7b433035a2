import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from blend_pl.models import NDT, STNDT, Dims
from blend_pl.models.layers.attention import AttentionWindow, SelfAttention, dense_attention, window_mask


@given(bins=st.integers(1, 12), forward=st.integers(-1, 13), backward=st.integers(-1, 13))
def test_window_mask_matches_definition(bins: int, forward: int, backward: int) -> None:
    window = window_mask(bins, forward, backward)
    for i in range(bins):
        for j in range(bins):
            ahead = forward < 0 or j - i <= forward
            behind = backward < 0 or i - j <= backward
            assert (True if window is None else bool(window[i, j])) == (ahead and behind)


@pytest.mark.parametrize(("width", "heads"), [(8, 2), (12, 3), (6, 1)])
@pytest.mark.parametrize(("forward", "backward"), [(-1, -1), (1, 3), (0, -1)])
def test_attention_equals_torch_if_heads_divide_width(width: int, heads: int, forward: int, backward: int) -> None:
    torch.manual_seed(0)
    ours, theirs = SelfAttention(width, heads, 0.0), nn.MultiheadAttention(width, heads, batch_first=True)
    with torch.no_grad():
        nn.init.normal_(ours.qkv.bias)
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    tokens = torch.randn(3, 9, width)
    window = window_mask(9, forward, backward)
    expected, _ = theirs(tokens, tokens, tokens, attn_mask=None if window is None else ~window)
    torch.testing.assert_close(ours(tokens, AttentionWindow(9, forward, backward)), expected, atol=1e-5, rtol=0)


def test_attention_dropout_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    attention, tokens = SelfAttention(4, 2, 0.5), torch.randn(2, 8, 4)
    assert not torch.equal(attention(tokens, None), attention(tokens, None))
    attention.eval()
    assert torch.equal(attention(tokens, None), attention(tokens, None))


@given(
    bins=st.integers(1, 150),
    reach=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    width=st.integers(1, 9),
    heads=st.integers(1, 3),
)
def test_blockwise_attention_equals_dense_attention(bins: int, reach: tuple[int, int], width: int, heads: int) -> None:
    torch.manual_seed(0)
    blocks = (3 * torch.randn(2, bins, 3, heads, width, dtype=torch.float64)).requires_grad_()
    pairs = blocks.detach().clone().requires_grad_()
    window = AttentionWindow(bins, *reach)
    ours, theirs = window(blocks), dense_attention(pairs, window.allowed, 0.0)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    weight = torch.randn(ours.shape)
    for result in (ours, theirs):
        (result * weight).sum().backward()
    torch.testing.assert_close(blocks.grad, pairs.grad, atol=1e-11, rtol=0)


@pytest.mark.parametrize(
    ("bins", "forward", "backward", "blocks"),
    [(180, 4, 8, True), (280, 0, 20, True), (45, 5, 5, False), (180, -1, 8, False), (180, 60, 60, False)],
)
def test_blockwise_attention_is_used_for_long_trials_and_short_windows(
    bins: int, forward: int, backward: int, blocks: bool
) -> None:
    assert (AttentionWindow(bins, forward, backward).bias is not None) == blocks


def test_blockwise_attention_applies_dropout() -> None:
    torch.manual_seed(0)
    window, qkv = AttentionWindow(180, 4, 8), torch.randn(4, 180, 3, 2, 3)
    qkv[:, :, 2] = 1
    torch.testing.assert_close(window(qkv), torch.ones(4, 180, 2, 3))
    mixed = window(qkv, 0.5)
    assert not torch.equal(mixed, window(qkv, 0.5))
    assert mixed.mean() == pytest.approx(1, abs=0.1)
    assert not window(qkv, 1.0).any()


@pytest.mark.parametrize("bins", [72, 80])
def test_blockwise_gradients_with_dropout_pass_gradcheck(bins: int) -> None:
    window = AttentionWindow(bins, 1, 2)
    assert window.bias is not None
    qkv = torch.randn(1, bins, 3, 1, 2, dtype=torch.float64, requires_grad=True)

    def mixed(qkv: Tensor) -> Tensor:
        torch.manual_seed(0)
        return window(qkv, 0.3)

    assert torch.autograd.gradcheck(mixed, qkv, fast_mode=True)


def test_blockwise_attention_in_bfloat16_is_within_precision() -> None:
    torch.manual_seed(0)
    window, qkv = AttentionWindow(180, 4, 8), torch.randn(2, 180, 3, 2, 7)
    exact, coarse = (qkv.to(dtype).detach().requires_grad_() for dtype in (torch.float32, torch.bfloat16))
    for copy in (exact, coarse):
        window(copy).square().sum().backward()
    assert coarse.grad is not None
    assert coarse.grad.dtype == torch.bfloat16
    torch.testing.assert_close(coarse.grad.float(), exact.grad, atol=0.1, rtol=0.02)


def test_window_is_not_in_state_dict() -> None:
    assert AttentionWindow(180, 4, 8).state_dict() == {}


class Attention(nn.Module):
    """Attention in a window, as a module with parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.window = AttentionWindow(60, 1, 2)

    def forward(self, qkv: Tensor) -> Tensor:
        return self.window(qkv)


def test_exported_attention_accepts_any_number_of_trials() -> None:
    attention = Attention().eval()
    assert attention.window.bias is not None, "blocks, which a program does without"
    trials = torch.export.Dim("trials")
    program = torch.export.export(attention, (torch.randn(2, 60, 3, 2, 4),), dynamic_shapes=({0: trials},))
    qkv = torch.randn(5, 60, 3, 2, 4)
    torch.testing.assert_close(program.module()(qkv), attention(qkv))


@pytest.mark.parametrize("backbone", [NDT, STNDT])
def test_context_in_ms_is_the_same_time_for_all_bin_widths(backbone: type[NDT] | type[STNDT]) -> None:
    for bin_ms, bins in ((20, (2, 5)), (5, (8, 20)), (30, (1, 3))):
        dims = Dims(channels=3, neurons=4, observed_bins=30, bins=30, bin_ms=bin_ms)
        window = backbone(dims, num_layers=1, context_forward_ms=40, context_backward_ms=100).window
        assert (window.context_forward, window.context_backward) == bins
        default = backbone(dims, num_layers=1, context_backward_ms=-1).window
        assert (default.context_forward, default.context_backward) == (4, -1)
