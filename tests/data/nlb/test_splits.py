"""Tests of the division of windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.nlb.spec import SessionFiles, SessionSpec, SplitSpec, WindowSpec
from blend_pl.data.nlb.splits import check_split, draw_split, read_split_column
from blend_pl.data.nlb.windows import Windows, WindowShape
from blend_pl.errors import ConfigError, DataError

TRIALS = WindowSpec(0, 600, align="start_time")


def spec(split: SplitSpec, window: WindowSpec = TRIALS) -> SessionSpec:
    return SessionSpec("own", SessionFiles("own.nwb"), window, split=split)


def windows(starts: list[int]) -> Windows:
    start = np.array(starts)
    return Windows(np.arange(len(start)), start, start, start, 0 * start, WindowShape(8, 2, 5), len(start))


@pytest.mark.parametrize(
    ("split", "window", "message"),
    [
        (SplitSpec(), WindowSpec(0, 600, stride_ms=600), "split.column: null and split.by: block"),
        (SplitSpec(None, by="session"), TRIALS, "split.by is 'session'"),
        (SplitSpec(None, train=0.9, val=0.2), TRIALS, "their sum to at most 1"),
        (SplitSpec(None, train=0.0), TRIALS, "train above 0"),
        (SplitSpec(None, by="trial"), WindowSpec(0, 600, stride_ms=600), "stride_ms to 800 or more"),
    ],
)
def test_contradictory_splits_raise(split: SplitSpec, window: WindowSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_split(spec(split, window))


@pytest.mark.parametrize(
    ("split", "window"),
    [
        (SplitSpec(), TRIALS),
        (SplitSpec(None, train=0.85, val=0.15), TRIALS),
        (SplitSpec(None, by="block"), WindowSpec(0, 600, stride_ms=100)),
        (SplitSpec(None, by="trial"), WindowSpec(0, 600, stride_ms=800)),
    ],
)
def test_valid_splits_pass(split: SplitSpec, window: WindowSpec) -> None:
    check_split(spec(split, window))


def test_split_column_is_used_unchanged() -> None:
    labels = np.array(["train", "none", "test", "val"])
    seconds = np.array([1.0, np.nan, 2.0, 3.0])
    assert read_split_column(SplitSpec(), {"split": labels}, "go", seconds, "the table").tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("columns", "seconds", "message"),
    [
        ({"part": np.array(["train"])}, [1.0], "no column 'split'; set split.column to one it has: part"),
        ({"split": np.array(["training"])}, [1.0], "has the value 'training'"),
        ({"split": np.array(["none", "val"])}, [np.nan, np.nan], r"without go \(first: row 1, val\)"),
    ],
)
def test_unusable_columns_raise(columns: dict[str, np.ndarray], seconds: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_split_column(SplitSpec(), columns, "go", np.array(seconds), "the table")


@given(n=st.integers(0, 60), train=st.floats(0.1, 0.9), seed=st.integers(0, 5))
def test_random_split_has_the_fractions_and_depends_on_the_seed(n: int, train: float, seed: int) -> None:
    split = SplitSpec(None, by="trial", train=train, val=(1 - train) / 2, seed=seed)
    labels = draw_split(split, windows(list(range(0, 10 * n, 10))))
    assert (labels == "train").sum() == round(train * n)
    assert abs((labels == "val").sum() - (1 - train) / 2 * n) <= 1
    assert set(labels) <= {"train", "val", "test"}
    np.testing.assert_array_equal(labels, draw_split(split, windows(list(range(0, 10 * n, 10)))))


def test_random_split_without_remainder_has_no_test_trials() -> None:
    labels = draw_split(SplitSpec(None, train=0.85, val=0.15), windows(list(range(20))))
    assert sorted(labels) == ["train"] * 17 + ["val"] * 3


def test_seeds_give_different_splits() -> None:
    starts = windows(list(range(30)))
    assert (draw_split(SplitSpec(None, seed=0), starts) != draw_split(SplitSpec(None, seed=1), starts)).any()


@given(starts=st.lists(st.integers(0, 300), min_size=1, max_size=40), train=st.floats(0.1, 0.8))
def test_blocks_are_contiguous_and_share_no_bin(starts: list[int], train: float) -> None:
    every = windows(sorted(starts))
    labels = draw_split(SplitSpec(None, by="block", train=train, val=0.1), every)
    used = {name: every.start[labels == name] for name in ("train", "val", "test")}
    for earlier, later in (("train", "val"), ("val", "test"), ("train", "test")):
        if len(used[earlier]) and len(used[later]):
            assert used[earlier].max() + every.shape.n_bins <= used[later].min()


def test_window_across_a_border_belongs_to_no_block() -> None:
    labels = draw_split(SplitSpec(None, by="block", train=0.5, val=0.25), windows([0, 10, 15, 20, 30]))
    assert labels.tolist() == ["train", "train", "none", "val", "test"]
