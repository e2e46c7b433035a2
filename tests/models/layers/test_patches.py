"""Value embeddings of patches."""

import pytest
import torch

from blend_pl.errors import ConfigError
from blend_pl.models.layers.patches import CountPatches, WaveformPatches


def test_counts_are_clipped_and_missing_neurons_are_zero() -> None:
    embed = CountPatches(patch=2, d_model=6)
    values = torch.tensor([[0.0, 9.0], [5.0, 5.0]]).view(1, 2, 1, 2)
    tokens = embed(values, torch.ones(1, 1, 2, dtype=torch.bool))
    assert tokens.shape == (1, 2, 1, 6)
    assert torch.equal(tokens[0, 0, 0, 3:], tokens[0, 1, 0, 3:])
    absent = embed(values, torch.tensor([[[True, False]]]))
    assert absent[..., 3:].count_nonzero() == 0
    assert torch.equal(absent[..., :3], tokens[..., :3])


def test_initial_count_token_is_linear_in_counts() -> None:
    embed, present = CountPatches(patch=2, d_model=6), torch.ones(1, 1, 2, dtype=torch.bool)
    one, two = (embed(torch.tensor([k, 2 * k]).view(1, 1, 1, 2), present) for k in (1.0, 2.0))
    assert one.count_nonzero() == 6
    torch.testing.assert_close(two, 2 * one)
    assert embed(torch.zeros(1, 1, 1, 2), present).count_nonzero() == 0


def test_width_not_divisible_by_neurons_raises() -> None:
    with pytest.raises(ConfigError, match="5 neurons do not divide a token of width 32"):
        CountPatches(5, 32)


def test_convolution_is_causal() -> None:
    torch.manual_seed(0)
    embed = WaveformPatches(patch=3, d_model=4, kernel=3, dilation=2)
    values = torch.randn(1, 12, 2, 3)
    present = torch.ones(1, 2, 3, dtype=torch.bool)
    changed = values.clone()
    changed[:, 5] += 1
    moved = (embed(values, present) != embed(changed, present)).any(-1).any(-1)[0]
    assert moved.nonzero()[:, 0].tolist() == [5, 7, 9]


def test_missing_channels_are_ignored() -> None:
    embed = WaveformPatches(patch=3, d_model=4)
    values, present = torch.randn(1, 6, 1, 3), torch.tensor([[[True, True, False]]])
    corrupted = values.clone()
    corrupted[..., 2] = torch.nan
    assert torch.equal(embed(values, present), embed(corrupted, present))
