"""Tests of random shifts of windows."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.specs import DMFC_RSG
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.nlb.jitter import JITTER_GROUPS, apply_jitter
from blend_pl.data.nlb.windows import Windows, WindowShape
from blend_pl.errors import DataError

WINDOW = DMFC_RSG.window


def windows(n: int, bin_ms: int = 5) -> Windows:
    start = 1000 * np.arange(n)
    return Windows(
        np.arange(n), start, start, start + 1500 // bin_ms, 0 * start, WindowShape.from_window(WINDOW, bin_ms), n
    )


def shifts(interval: np.ndarray, labels: np.ndarray, phase: str = "val", bin_ms: int = 5) -> np.ndarray:
    placed = windows(len(interval), bin_ms)
    moved = apply_jitter(WINDOW, placed, labels, {"tp": interval}, JITTER_GROUPS[phase], "the table")
    np.testing.assert_array_equal(moved.start - placed.start, moved.jitter)
    np.testing.assert_array_equal(moved.behavior_start - placed.behavior_start, moved.jitter)
    np.testing.assert_array_equal(moved.event, placed.event)
    np.testing.assert_array_equal(moved.without_jitter.start, placed.start)
    return moved.jitter


@given(
    st.lists(st.floats(0, 2000), min_size=1, max_size=30), st.sampled_from([5, 20]), st.sampled_from(["val", "test"])
)
def test_interval_stays_inside_the_window(intervals: list[float], bin_ms: int, phase: str) -> None:
    interval = np.array(intervals)
    shift = bin_ms * shifts(interval, np.resize(["train", "val", "test"], len(interval)), phase, bin_ms)
    assert (shift >= 0).all()
    assert (shift <= np.clip(1500 - interval, 0, 300)).all()
    assert not shift[2::3].any()


def test_splits_of_one_group_share_a_draw() -> None:
    interval, labels = np.full(40, 900.0), np.repeat(["train", "val"], 20)
    two_groups, one_group = shifts(interval, labels, "val"), shifts(interval, labels, "test")
    np.testing.assert_array_equal(two_groups[:20], two_groups[20:])
    np.testing.assert_array_equal(two_groups[:20], one_group[:20])
    assert (two_groups[20:] != one_group[20:]).any()
    assert len(np.unique(one_group)) > 10


def test_trials_without_interval_are_not_shifted_and_missing_column_raises() -> None:
    assert not shifts(np.array([np.nan, 1600.0]), np.array(["train", "train"])).any()
    with pytest.raises(DataError, match="no column 'tp'"):
        apply_jitter(WINDOW, windows(2), np.array(["train"] * 2), {}, JITTER_GROUPS["val"], "the table")


def test_windows_are_unchanged_without_jitter() -> None:
    still = windows(3)
    assert (
        apply_jitter(replace(WINDOW, jitter=None), still, np.array(["train"] * 3), {}, JITTER_GROUPS["val"], "")
        is still
    )
