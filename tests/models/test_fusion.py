import math

import pytest
import torch

from blend_pl.models.fusion import Concatenation


@pytest.mark.parametrize("size", [None, 3])
def test_behaviour_is_laid_beside_untouched_tokens(size: int | None) -> None:
    fusion = Concatenation(4, 2, size)
    tokens, context = torch.randn(2, 5, 4), torch.randn(2, 5, 2)
    width = size or 2
    fused = fusion(tokens, context)
    assert fused.shape == (2, 5, 4 + width)
    assert fusion.width == 4 + width
    assert torch.equal(fused[..., :4], tokens)
    linear = fusion.embedding
    expected = (context @ linear.weight.T + linear.bias) * math.sqrt(width)
    torch.testing.assert_close(fused[..., 4:], expected)
