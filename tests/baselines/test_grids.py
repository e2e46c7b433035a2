"""Candidates of the hyperparameters of baselines."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.baselines.grids import HyperparameterGrid, edge_warning, log_spaced_durations, search_outward


@given(st.integers(1, 200), st.integers(1, 2000))
def test_durations_range_from_bin_to_window_in_even_steps(bin_ms: int, n_bins: int) -> None:
    durations = log_spaced_durations(bin_ms, bin_ms * n_bins)
    assert durations[0] >= bin_ms
    assert durations[-1] == bin_ms * n_bins
    assert all(1 < second / first < 2 for first, second in pairwise(durations))


def test_wide_windows_have_wide_kernels() -> None:
    grid = HyperparameterGrid.for_window(33, 3000)
    assert max(grid.kernel_sds_ms) == max(grid.lags_ms) == 3000
    assert grid.lags_ms[0] == 0


def test_given_candidates_are_sorted_and_kept() -> None:
    grid = HyperparameterGrid.for_window(20, 700, [80, 20], [1.0, 0.1], [0])
    assert grid == HyperparameterGrid((20, 80), (0.1, 1.0), (0,))


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=9, unique=True).map(sorted), st.data())
def test_search_finds_the_best_of_unimodal_scores(candidates: list[int], data: st.DataObject) -> None:
    peak = data.draw(st.sampled_from(candidates))
    scores = search_outward(candidates, data.draw(st.sampled_from(candidates)), lambda value: -abs(value - peak))
    assert max(scores, key=scores.__getitem__) == peak


def test_search_ends_after_two_candidates_without_improvement() -> None:
    tried = [*search_outward([1, 2, 3, 4, 5, 6], 3, lambda value: -abs(value - 3))]
    assert tried == [3, 4, 5, 2, 1]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({10.0: 0.1, 20.0: 0.2, 50.0: 0.3}, "largest of its candidates (10 to 50 ms); extend it"),
        ({10.0: 0.4, 20.0: 0.2, 50.0: 0.3}, "smallest of its candidates (10 to 50 ms); extend it"),
        ({10.0: 0.1, 20.0: 0.4, 50.0: 0.3}, None),
        ({10.0: 0.1, 20.0: 0.2996, 50.0: 0.3}, None),
        ({0.0: 0.4, 20.0: 0.2, 50.0: 0.3}, None),
        ({10.0: 0.4}, None),
    ],
)
def test_edge_warning(scores: dict[float, float], expected: str | None) -> None:
    warning = edge_warning("kernel", scores, sorted(scores), " ms", "extend it")
    assert (warning and warning.split("is the ")[1]) == expected
