"""Tests of the division of windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.nlb.spec import SessionFiles, SessionSpec, SplitSpec, WindowSpec
from blend_pl.data.nlb.splits import (
    check_split,
    count_shared_windows,
    draw_split,
    draw_trial_split,
    overlap_groups,
    read_split_column,
    require_disjoint_splits,
)
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
    labels = draw_split(SplitSpec(None, train=0.85, val=0.15), windows(list(range(0, 200, 10))))
    assert sorted(labels) == ["train"] * 17 + ["val"] * 3


def test_seeds_give_different_splits() -> None:
    starts = windows(list(range(0, 300, 10)))
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


def bins_of(every: Windows, chosen: np.ndarray) -> set[int]:
    return {int(bin_) for start in every.start[chosen] for bin_ in range(start, start + every.shape.n_bins)}


@given(
    starts=st.lists(st.integers(0, 3000), min_size=1, max_size=60),
    train=st.floats(0.2, 0.8),
    seed=st.integers(0, 5),
    max_shift=st.sampled_from([0, 7]),
    by=st.sampled_from(["trial", "block"]),
)
def test_drawn_splits_share_no_bin_or_are_refused(
    starts: list[int], train: float, seed: int, max_shift: int, by: str
) -> None:
    every = windows(starts)
    split = SplitSpec(None, by=by, train=train, val=(1 - train) / 2, seed=seed)
    try:
        labels = draw_split(split, every, max_shift)
    except ConfigError:
        assert by == "trial"
        return
    shifted = windows((every.start + np.arange(len(starts)) % (max_shift + 1)).tolist())
    for first, second in (("train", "val"), ("val", "test"), ("train", "test")):
        assert not bins_of(shifted, labels == first) & bins_of(shifted, labels == second)
    if by == "trial":
        assert abs((labels == "train").mean() - train) <= 0.1 + 0.5 / len(starts)


def test_overlapping_pairs_are_drawn_together() -> None:
    pairs = windows([start + shift for start in range(0, 2000, 50) for shift in (0, 6)])
    labels = draw_split(SplitSpec(None, train=0.7, val=0.15), pairs)
    assert (labels[::2] == labels[1::2]).all()
    assert {split: int((labels == split).sum()) for split in ("train", "val", "test")} == {
        "train": 56,
        "val": 12,
        "test": 12,
    }


def test_chain_of_windows_is_refused_in_a_random_draw() -> None:
    with pytest.raises(ConfigError, match=r"100 of 100 windows overlap others, 100 in one chain.* split.by: block"):
        draw_split(SplitSpec(None), windows(list(range(0, 500, 5))))


def test_windows_without_overlap_are_drawn_as_before() -> None:
    starts = windows(list(range(0, 500, 10)))
    np.testing.assert_array_equal(
        draw_split(SplitSpec(None, seed=3), starts), draw_trial_split(SplitSpec(None, seed=3), 50)
    )


@given(starts=st.lists(st.integers(0, 200), min_size=1, max_size=30), length=st.integers(1, 12))
def test_overlap_groups_are_the_connected_components(starts: list[int], length: int) -> None:
    start = np.array(starts)
    groups = overlap_groups(start, start + length)
    same = abs(start[:, None] - start) < length
    assert (groups[:, None] == groups)[same].all()
    assert len(np.unique(groups)) == groups.max() + 1
    for group in range(groups.max() + 1):
        inside = np.sort(start[groups == group])
        assert (np.diff(inside) < length).all()


def test_column_with_overlapping_splits_raises() -> None:
    labels, start = np.array(["train", "none", "val", "train"]), np.array([0, 5, 9, 30])
    assert count_shared_windows(labels, start, start + 10) == 1
    assert count_shared_windows(labels, start, start + 9) == 0
    require_disjoint_splits(labels, start, start + 9, "split")
    with pytest.raises(DataError, match=r"1 of 4 windows overlap .* column 'split'"):
        require_disjoint_splits(labels, start, start + 10, "split")
