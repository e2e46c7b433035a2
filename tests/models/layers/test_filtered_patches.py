"""Embedding of waveforms by a fixed bank of temporal filters."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from blend_pl.errors import BlendError
from blend_pl.models.layers.filtered_patches import TRUNCATION, FilteredPatches, gaussian_filters

PRESENT = torch.ones(1, 2, 3, dtype=torch.bool)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("width", [4.0, 8.0])
def test_filters_equal_those_of_scipy(order: int, width: float) -> None:
    values = torch.randn(1, 40, 1, 1)
    embed = FilteredPatches(patch=1, d_model=2, widths=(width,))
    embed.projection = torch.nn.Identity()
    filtered = embed(values, torch.ones(1, 1, 1, dtype=torch.bool))[0, :, 0, order].numpy()
    expected = gaussian_filter1d(
        values.flatten().double().numpy(), width, order=order, mode="nearest", truncate=TRUNCATION
    )
    # A derivative in bins, with the sign of the derivative of the values.
    np.testing.assert_allclose(filtered, expected * width**order, atol=1e-5)


def test_derivatives_of_constant_values_are_zero() -> None:
    torch.testing.assert_close(gaussian_filters((2.0, 5.0)).sum(1), torch.tensor([1.0, 0.0, 1.0, 0.0]))


def test_channels_are_embedded_in_their_patch() -> None:
    torch.manual_seed(0)
    embed = FilteredPatches(patch=3, d_model=4, widths=(2.0,))
    values = torch.randn(1, 30, 2, 3)
    changed = values.clone()
    changed[..., 1, 2] += 1
    difference = (embed(changed, PRESENT) - embed(values, PRESENT)).abs().sum((0, 1, 3))
    assert difference[0] == 0
    assert difference[1] > 0
    single = FilteredPatches(patch=3, d_model=4, widths=(2.0,))
    single.load_state_dict(embed.state_dict())
    torch.testing.assert_close(single(values[:, :, 1:], PRESENT[:, 1:]), embed(values, PRESENT)[:, :, 1:])


def test_missing_channels_are_ignored() -> None:
    embed = FilteredPatches(patch=3, d_model=4, widths=(2.0,))
    values = torch.randn(1, 30, 2, 3)
    mask = PRESENT.clone()
    mask[..., 2] = False
    changed = values.clone()
    changed[..., 2] = torch.nan
    assert torch.equal(embed(values, mask), embed(changed, mask))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ()}, "no filters"),
        ({"widths": (0.0,)}, "widths must be above 0"),
        ({"dropout": 1.5}, "dropout must be at least 0"),
    ],
)
def test_invalid_settings_raise(settings: dict[str, object], message: str) -> None:
    with pytest.raises(BlendError, match=message):
        FilteredPatches(3, 4, **settings)  # type: ignore[arg-type]
