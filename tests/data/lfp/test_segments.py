"""Tests of segments and their z-scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.lfp.segments import PARENT_SEGMENT_BINS, split_segments, standardize_channels
from blend_pl.errors import ConfigError, DataError


def bins(starts: np.ndarray, length: int) -> set[int]:
    return {start + bin for start in starts.tolist() for bin in range(length)}


@given(n_bins=st.integers(5000, 60_000), seed=st.integers(0, 9), split=st.sampled_from(["random", "blocks"]))
def test_splits_are_disjoint_and_agree_across_lengths(n_bins, seed, split):
    short, long = (split_segments(n_bins, length, split, seed) for length in (100, 500))
    bins_by_split = [bins(getattr(short, name), 100) for name in ("train", "val", "test")]
    assert bins_by_split == [bins(getattr(long, name), 500) for name in ("train", "val", "test")]
    assert len(set.union(*bins_by_split)) == sum(map(len, bins_by_split)) <= n_bins
    assert max(set.union(*bins_by_split)) < n_bins
    assert all(bins_by_split)


def test_fractions_are_kept():
    segments = split_segments(30 * PARENT_SEGMENT_BINS, 500, "random")
    assert [len(name) for name in (segments.train, segments.val, segments.test)] == [48, 6, 6]


def test_random_split_depends_on_the_seed_only():
    default = split_segments(30_000, 500, "random", 42)
    assert np.array_equal(default.test, split_segments(30_000, 500, "random").test)
    assert not np.array_equal(default.test, split_segments(30_000, 500, "random", 43).test)


def test_blocks_are_separated_by_a_gap():
    segments = split_segments(30_500, 500, "blocks")
    assert segments.val.min() - (segments.train.max() + 500) == PARENT_SEGMENT_BINS
    assert segments.test.min() - (segments.val.max() + 500) == PARENT_SEGMENT_BINS
    assert segments.test.max() + 500 == 30_000


def test_invalid_segments_raise():
    with pytest.raises(ConfigError, match=r"300 bins; set data\.length to a divisor of 1000"):
        split_segments(30_000, 300, "random")
    with pytest.raises(ConfigError, match="add up to 1"):
        split_segments(30_000, 500, "random", fractions=(0.8, 0.1, 0.2))
    with pytest.raises(DataError, match="2 parent segments of 1000 bins, too few"):
        split_segments(2_999, 500, "random")
    with pytest.raises(DataError, match="by blocks; choose a longer one"):
        split_segments(4_000, 500, "blocks")


def test_z_scores_depend_on_training_segments_alone() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (3000, 4)).astype(np.float32)
    starts = np.array([0, 2000])
    train_bins = np.r_[0:500, 2000:2500]
    before = standardize_channels(values, starts, 500)[train_bins]
    values[500:2000] = 1e6
    after = standardize_channels(values, starts, 500)[train_bins]
    assert np.array_equal(before, after)
    assert after.dtype == np.float32
    assert np.allclose(after.mean(0), 0, atol=1e-5)
    assert np.allclose(after.std(0), 1, atol=1e-5)


def test_missing_values_stay_missing_and_constant_channels_are_zero() -> None:
    values = np.random.default_rng(0).normal(size=(1005, 3))
    values[:1000:3, 0] = np.nan
    values[:1000, 1] = 0.1
    values[:1000, 2] = np.nan
    values[1000:] = 1
    z_scores = standardize_channels(values, np.array([0]), 1000)
    assert np.isnan(z_scores[:1000:3, 0]).all()
    assert np.allclose(np.nanmean(z_scores[:1000, 0]), 0, atol=1e-6)
    assert np.allclose(np.nanstd(z_scores[:1000, 0]), 1, atol=1e-6)
    assert (z_scores[:1000, 1] == 0).all()
    assert (z_scores[1000:, 1:] == 0).all()
