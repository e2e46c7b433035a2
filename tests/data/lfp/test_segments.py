import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.lfp.segments import PARENT_SEGMENT_BINS, ChannelZScore, split_segments
from blend_pl.errors import ConfigError, DataError


def bins(starts: np.ndarray, length: int) -> set[int]:
    return {start + bin for start in starts.tolist() for bin in range(length)}


@given(n_bins=st.integers(5000, 60_000), seed=st.integers(0, 9), split=st.sampled_from(["random", "blocks"]))
def test_no_bin_is_on_two_sides_and_lengths_agree(n_bins, seed, split):
    short, long = (split_segments(n_bins, length, split, seed) for length in (100, 500))
    sides = [bins(getattr(short, side), 100) for side in ("train", "val", "test")]
    assert sides == [bins(getattr(long, side), 500) for side in ("train", "val", "test")]
    assert len(set.union(*sides)) == sum(map(len, sides)) <= n_bins
    assert max(set.union(*sides)) < n_bins
    assert all(sides)


def test_shares_are_kept_without_one_extra():
    divided = split_segments(30 * PARENT_SEGMENT_BINS, 500, "random")
    assert [len(side) for side in (divided.train, divided.val, divided.test)] == [48, 6, 6]


def test_random_depends_on_the_seed_alone():
    again = split_segments(30_000, 500, "random", 42)
    assert np.array_equal(again.test, split_segments(30_000, 500, "random").test)
    assert not np.array_equal(again.test, split_segments(30_000, 500, "random", 43).test)


def test_blocks_have_no_neighbours_in_time():
    divided = split_segments(30_500, 500, "blocks")
    assert divided.val.min() - (divided.train.max() + 500) == PARENT_SEGMENT_BINS
    assert divided.test.min() - (divided.val.max() + 500) == PARENT_SEGMENT_BINS
    assert divided.test.max() + 500 == 30_000


def test_segments_that_cannot_be_cut():
    with pytest.raises(ConfigError, match="300 bins; choose a length that divides 1000"):
        split_segments(30_000, 300, "random")
    with pytest.raises(ConfigError, match="add up to 1"):
        split_segments(30_000, 500, "random", fractions=(0.8, 0.1, 0.2))
    with pytest.raises(DataError, match="2 parents of 1000, too few"):
        split_segments(2_999, 500, "random")
    with pytest.raises(DataError, match="by blocks; choose a longer one"):
        split_segments(4_000, 500, "blocks")


def test_z_scores_know_the_training_segments_alone():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (3000, 4)).astype(np.float32)
    starts = np.array([0, 2000])
    before = ChannelZScore.fit(values, starts, 500)
    values[500:2000] = 1e6
    after = ChannelZScore.fit(values, starts, 500)
    assert np.array_equal(before.mean, after.mean)
    inside = np.r_[0:500, 2000:2500]
    scored = after.apply(values)[inside]
    assert scored.dtype == np.float32
    assert np.allclose(scored.mean(0), 0, atol=1e-5)
    assert np.allclose(scored.std(0), 1, atol=1e-5)


def test_z_scores_of_missing_and_constant_values():
    values = np.random.default_rng(0).normal(size=(1000, 3))
    values[::3, 0] = np.nan
    values[:, 1] = 0.1
    values[:, 2] = np.nan
    scored = ChannelZScore.fit(values, np.array([0]), 1000)
    assert np.allclose(scored.mean[0], np.nanmean(values[:, 0]))
    assert np.allclose(scored.std[0], np.nanstd(values[:, 0]))
    applied = scored.apply(values)
    assert np.isnan(applied[::3, 0]).all()
    assert (applied[:, 1] == 0).all()
    assert (scored.apply(np.ones((5, 3)))[:, 1:] == 0).all()
