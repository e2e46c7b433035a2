"""Tests of `Standardizer`."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blend_pl.data.standardize import Standardizer


@settings(deadline=None)
@given(missing_fraction=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_missing_values_are_ignored(missing_fraction: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    behavior = 5 + 3 * torch.randn(4, 30, 2, generator=generator)
    missing_mask = torch.rand(4, 30, 2, generator=generator) < missing_fraction
    behavior[missing_mask] = torch.nan
    fitted = Standardizer.fit(behavior)
    for channel in range(2):
        finite = behavior[..., channel][~missing_mask[..., channel]].double()
        assert fitted.mean[channel].item() == pytest.approx(finite.mean().item(), rel=1e-5)
        assert fitted.std[channel].item() == pytest.approx(finite.std(correction=0).item(), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 12345.678])
def test_constant_column_is_only_centered(value: float) -> None:
    fitted = Standardizer.fit(torch.full((30, 31, 1), value))
    assert fitted.std.item() == 1
    assert fitted.mean.item() == pytest.approx(value)


def test_small_std_around_large_mean_is_preserved() -> None:
    behavior = 100 + 0.01 * torch.randn(50, 20, 1, generator=torch.Generator().manual_seed(0))
    assert Standardizer.fit(behavior).std.item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("behavior", [torch.full((3, 4, 2), torch.nan), torch.empty(3, 4, 0), torch.empty(0, 4, 2)])
def test_empty_or_all_nan_input_gives_zero_mean_and_unit_std(behavior: torch.Tensor) -> None:
    fitted = Standardizer.fit(behavior)
    assert fitted.mean.tolist() == [0.0] * behavior.shape[-1]
    assert fitted.std.tolist() == [1.0] * behavior.shape[-1]


def test_infinite_values_are_ignored() -> None:
    behavior = torch.tensor([1.0, 3.0, torch.inf, -torch.inf]).view(1, 4, 1)
    fitted = Standardizer.fit(behavior)
    assert (fitted.mean.item(), fitted.std.item()) == (2.0, 1.0)


def test_infinite_constant_std_sets_constant_and_all_nan_columns_to_zero() -> None:
    values = np.random.default_rng(0).normal(size=(1000, 3))
    values[::3, 0] = np.nan
    values[:, 1] = 0.1
    values[:, 2] = np.nan
    fitted = Standardizer.fit(values, constant_std=math.inf)
    assert np.allclose(fitted.mean[0], np.nanmean(values[:, 0]))
    assert np.allclose(fitted.std[0], np.nanstd(values[:, 0]))
    assert np.isnan(fitted.transform(values)[::3, 0]).all()
    assert (fitted.transform(np.ones((5, 3)))[:, 1:] == 0).all()


def test_weighted_fit_equals_fit_of_repeated_rows() -> None:
    values = np.random.default_rng(0).normal(2, 3, (20, 4))
    weights = np.arange(20) % 4
    weighted, repeated = Standardizer.fit(values, weights), Standardizer.fit(np.repeat(values, weights, axis=0))
    np.testing.assert_allclose(weighted.mean, repeated.mean)
    np.testing.assert_allclose(weighted.std, repeated.std)


def test_array_and_tensor_give_equal_z_scores() -> None:
    values = np.random.default_rng(0).normal(2, 3, (50, 4)).astype(np.float32)
    from_array = Standardizer.fit(values)
    from_tensor = Standardizer.fit(torch.from_numpy(values))
    assert torch.equal(torch.from_numpy(from_array.transform(values)), from_tensor.transform(torch.from_numpy(values)))
    on_device = from_array.to(torch.device("cpu"))
    assert torch.equal(on_device.mean, from_tensor.mean)
    assert torch.equal(on_device.std, from_tensor.std)
