import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from blend_pl.models import LFADS, NDT, STNDT, Dims
from blend_pl.models.layers.embedding import sinusoids
from blend_pl.models.layers.fusion import Additive, Concatenation, CrossAttention, FiLM, Fusion

FUSIONS: list[Callable[[int, int], Fusion]] = [
    Concatenation,
    partial(Concatenation, size=3),
    Additive,
    FiLM,
    CrossAttention,
    partial(CrossAttention, num_heads=3),
]


@pytest.mark.parametrize("size", [None, 3])
def test_concatenation_keeps_tokens_and_appends_behavior(size: int | None) -> None:
    fusion = Concatenation(4, 2, size)
    tokens, context = torch.randn(2, 5, 4), torch.randn(2, 5, 2)
    width = size or 2
    fused = fusion(tokens, context)
    assert fused.shape == (2, 5, 4 + width)
    assert fusion.output_dim == 4 + width
    assert torch.equal(fused[..., :4], tokens)
    linear = fusion.embedding
    expected = (context @ linear.weight.T + linear.bias) * math.sqrt(width)
    torch.testing.assert_close(fused[..., 4:], expected)


def test_additive_fusion_adds_scaled_linear_map() -> None:
    fusion, tokens, context = Additive(4, 2), torch.randn(2, 5, 4), torch.randn(2, 5, 2)
    assert fusion.output_dim == 4
    expected = tokens + 2 * (context @ fusion.embedding.weight.T + fusion.embedding.bias)
    torch.testing.assert_close(fusion(tokens, context), expected)


def test_film_scales_and_shifts() -> None:
    fusion, tokens, context = FiLM(4, 2), torch.randn(2, 5, 4), torch.randn(2, 5, 2)
    assert fusion.output_dim == 4
    shift = context @ fusion.shift.weight.T + fusion.shift.bias
    torch.testing.assert_close(fusion(tokens, context), tokens + shift)
    nn.init.normal_(fusion.scale.weight)
    expected = tokens * (1 + context @ fusion.scale.weight.T) + shift
    torch.testing.assert_close(fusion(tokens, context), expected)


@pytest.mark.parametrize("heads", [1, 2])
def test_cross_attention_equals_torch(heads: int) -> None:
    torch.manual_seed(0)
    fusion, tokens, context = CrossAttention(4, 3, heads), torch.randn(2, 5, 4), torch.randn(2, 5, 3)
    attention = nn.MultiheadAttention(4, heads, batch_first=True)
    parts = fusion.query, fusion.key, fusion.value
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        attention.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        attention.out_proj.load_state_dict(fusion.out_proj.state_dict())
    behavior, positions = fusion.embedding(context), sinusoids(5, 4)
    expected = tokens + attention(fusion.norm(tokens) + positions, behavior + positions, behavior)[0]
    torch.testing.assert_close(fusion(tokens, context), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", FUSIONS)
@pytest.mark.parametrize("width", [1, 5])
def test_fusion_has_output_dim_and_trains(make: Callable[[int, int], Fusion], width: int) -> None:
    torch.manual_seed(0)
    fusion, tokens, context = make(width, 2), torch.randn(3, 6, width), torch.randn(3, 6, 2, requires_grad=True)
    fused = fusion(tokens, context)
    assert fused.shape == (3, 6, fusion.output_dim)
    fused.square().sum().backward()
    assert context.grad is not None
    assert context.grad.abs().amin() > 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in fusion.parameters())


@pytest.mark.parametrize("make", FUSIONS)
def test_one_hot_category_is_embedded(make: Callable[[int, int], Fusion]) -> None:
    torch.manual_seed(0)
    fusion, levels = make(5, 3), torch.eye(3)[:, None].expand(3, 6, 3)
    fused = fusion(torch.ones(3, 6, 5), levels)
    assert all((fused[a] - fused[b]).abs().max() > 1e-3 for a, b in [(0, 1), (0, 2), (1, 2)])


@pytest.mark.parametrize("make", FUSIONS)
@pytest.mark.parametrize("kind", [NDT, STNDT, LFADS])
def test_backbones_accept_fusions(make: Callable[[int, int], Fusion], kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind(Dims(5, 8, 7, 9, 2), fusion=make).eval()
    counts, behavior = torch.randint(0, 3, (2, 7, 5)).float(), torch.randn(2, 9, 2)
    moved = behavior.clone()
    moved[:, 8] += 2
    assert not torch.allclose(model(counts, behavior).prediction, model(counts, moved).prediction)
