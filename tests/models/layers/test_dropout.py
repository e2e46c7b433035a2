import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.models.layers.dropout import FastDropout, fast_dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropped_fraction_and_scale(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n = 200_001
    tokens = torch.ones(n, dtype=dtype, requires_grad=True)
    out = FastDropout(p)(tokens)
    keep_mask = out != 0
    assert out.dtype == dtype
    assert float(keep_mask.double().mean()) == pytest.approx(1 - p, abs=5 * (p * (1 - p) / n) ** 0.5)
    torch.testing.assert_close(out[keep_mask], torch.full_like(out[keep_mask], 1 / (1 - p)), rtol=5e-3, atol=0)
    out.sum().backward()
    assert tokens.grad is not None
    assert torch.equal(tokens.grad, out)


def test_adjacent_entries_are_independent() -> None:
    torch.manual_seed(0)
    keep_mask = (fast_dropout(torch.ones(400_000), 0.5, training=True) != 0).double().view(-1, 4)
    assert (torch.corrcoef(keep_mask.T) - torch.eye(4)).abs().max() < 0.02
    assert (keep_mask[1:] * keep_mask[:-1]).mean() == pytest.approx(0.25, abs=0.01)


@given(shape=st.lists(st.integers(0, 5), max_size=3))
def test_any_shape_is_supported(shape: list[int]) -> None:
    assert fast_dropout(torch.ones(shape), 0.3, training=True).shape == torch.Size(shape)


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_no_entry_is_dropped(p: float, training: bool) -> None:
    tokens = torch.randn(100)
    assert torch.equal(fast_dropout(tokens, p, training), tokens)


def test_all_entries_are_dropped() -> None:
    assert not fast_dropout(torch.ones(100), 1.0, training=True).any()


def test_mask_depends_on_seed() -> None:
    def draw() -> torch.Tensor:
        torch.manual_seed(7)
        return fast_dropout(torch.ones(1000), 0.5, training=True)

    assert torch.equal(draw(), draw())
