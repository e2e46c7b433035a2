"""Statistics over seeds."""

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from blend_pl.report.statistics import BlockSeed, PairedDifference, SeedSummary, gap_closed

SCORES = st.lists(st.floats(-1, 1).map(lambda x: round(x, 4)), min_size=3, max_size=8)


def test_summary_is_none_without_values_and_has_no_deviation_for_one() -> None:
    assert SeedSummary.from_values({}) is None
    assert SeedSummary.from_values({3: 0.5}) == SeedSummary(0.5, None, 1)


def test_deviation_is_the_sample_standard_deviation() -> None:
    assert SeedSummary.from_values({0: 1.0, 1: 3.0}) == SeedSummary(2.0, pytest.approx(2**0.5), 2)


@given(SCORES, SCORES)
def test_interval_equals_that_of_a_paired_t_test(first: list[float], second: list[float]) -> None:
    n = min(len(first), len(second))
    difference = PairedDifference.from_values(dict(enumerate(first)), dict(enumerate(second)))
    expected = ttest_rel(first[:n], second[:n]).confidence_interval(0.95)
    assert difference is not None
    assert difference.n == n
    assert difference.interval == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_only_common_seeds_are_paired() -> None:
    assert PairedDifference.from_values({0: 1.0, 1: 2.0}, {1: 1.5, 2: 9.0}) == PairedDifference(0.5, None, 1)
    assert PairedDifference.from_values({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [({0: 0.2}, 0.0), ({0: 0.4}, 1.0), ({0: 0.25}, 0.25), ({0: 0.1}, -0.5), ({0: 0.25, 1: 9.0}, 0.25)],
)
def test_gap_closed(values: dict[int, float], expected: float) -> None:
    assert gap_closed(values, {0: 0.2}, {0: 0.4}) == pytest.approx(expected)


@pytest.mark.parametrize(("values", "teacher"), [({0: 0.3}, {0: 0.2}), ({0: 0.3}, {0: 0.1}), ({1: 0.3}, {0: 0.4})])
def test_gap_is_none_without_a_better_teacher_or_a_common_seed(
    values: dict[int, float], teacher: dict[int, float]
) -> None:
    assert gap_closed(values, {0: 0.2}, teacher) is None


@given(st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=5))
def test_seeds_of_a_fold_count_once(folds: list[tuple[list[float], list[float]]]) -> None:
    first, second = (
        {BlockSeed(f"{fold}/5", seed): pair[side][seed] for fold, pair in enumerate(folds) for seed in range(3)}
        for side in range(2)
    )
    means = [[fmean(pair[side][:3]) for pair in folds] for side in range(2)]
    difference = PairedDifference.from_values(first, second)
    expected = ttest_rel(*means).confidence_interval(0.95)
    assert difference is not None
    assert difference.n == len(folds)
    assert difference.interval == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert SeedSummary.from_values(first) == SeedSummary.from_values(dict(enumerate(means[0])))


def test_folds_are_paired_by_seed_before_the_mean() -> None:
    values = {BlockSeed("1/2", 0): 0.5, BlockSeed("1/2", 1): 0.9, BlockSeed("2/2", 0): 0.4}
    reference = {BlockSeed("1/2", 0): 0.3, BlockSeed("2/2", 0): 0.3, BlockSeed("2/2", 1): 9.0}
    difference = PairedDifference.from_values(values, reference)
    assert difference is not None
    assert (difference.mean, difference.n) == (pytest.approx(0.15), 2)
