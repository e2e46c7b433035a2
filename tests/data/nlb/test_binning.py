"""Tests of binning spike times."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.io.nwb import Units
from blend_pl.data.nlb.binning import NS_PER_MS, Intervals, SpikeTrains, ceil_to_bin, to_ms, to_ns

N_MS = 400


def make_units(times: list[list[float]], intervals: np.ndarray | None, ids: list[int] | None = None) -> Units:
    n = len(times)
    return Units(
        id=np.array(ids or list(range(n))),
        columns={},
        times=np.concatenate([np.array(t, dtype=float) for t in times]),
        time_stops=np.cumsum([len(t) for t in times]),
        intervals=None if intervals is None else np.tile(intervals, (n, 1)),
        interval_stops=None if intervals is None else len(intervals) * np.arange(1, n + 1),
    )


def population(times: list[list[float]], intervals: np.ndarray | None = None) -> SpikeTrains:
    return SpikeTrains.from_units(make_units(times, intervals), np.ones(len(times), dtype=bool), N_MS)


def naive_table(times: list[list[float]], intervals: np.ndarray | None) -> np.ndarray:
    """(N_MS, units) counts at 1 ms, NaN where nothing was recorded."""
    table = np.zeros((N_MS, len(times)))
    for unit, unit_times in enumerate(times):
        for time in unit_times:
            ms = int(round(time * 1000, 6))
            if 0 <= ms < N_MS:
                table[ms, unit] += 1
    if intervals is not None:
        inside = np.zeros(N_MS, dtype=bool)
        for start, stop in intervals:
            inside[int(np.ceil(round(start * 1000, 6))) : int(np.floor(round(stop * 1000, 6)))] = True
        table[~inside] = np.nan
    return table


def naive_counts(table: np.ndarray, start_bin: int, n_bins: int, bin_ms: int) -> tuple[np.ndarray, np.ndarray]:
    counts, observed = np.zeros((n_bins, table.shape[1]), dtype=int), np.zeros(n_bins, dtype=bool)
    for bin_ in range(n_bins):
        ms = (start_bin + bin_) * bin_ms
        if 0 <= ms < N_MS and not np.isnan(table[ms, 0]):
            observed[bin_] = True
            counts[bin_] = np.nansum(table[ms : ms + bin_ms], axis=0)
    return counts, observed


seconds = st.floats(0, N_MS / 1000, allow_nan=False) | st.integers(0, N_MS * 10).map(lambda tenth: tenth / 10_000)
edges = st.lists(st.integers(0, N_MS * 10), min_size=0, max_size=8, unique=True).map(
    lambda tenths: np.array(sorted(tenths)[: len(tenths) // 2 * 2]).reshape(-1, 2) / 10_000
)


@given(
    times=st.lists(st.lists(seconds, max_size=30), min_size=1, max_size=3),
    intervals=st.none() | edges.filter(len),
    starts=st.lists(st.integers(-10, 90), min_size=1, max_size=6),
    n_bins=st.integers(1, 12),
    bin_ms=st.sampled_from([1, 5, 20]),
)
def test_counts_equal_a_histogram_at_one_millisecond(
    times: list[list[float]], intervals: np.ndarray | None, starts: list[int], n_bins: int, bin_ms: int
) -> None:
    units = population(times, intervals)
    table = naive_table(times, intervals)
    counts = units.counts(np.array(starts), n_bins, bin_ms)
    observed = units.observed(np.array(starts), n_bins, bin_ms)
    assert counts.shape == (len(starts), n_bins, len(times))
    for window, start in enumerate(starts):
        expected, expected_observed = naive_counts(table, start, n_bins, bin_ms)
        np.testing.assert_array_equal(counts[window], expected)
        np.testing.assert_array_equal(observed[window], expected_observed)


@pytest.mark.parametrize(("n", "dtype"), [(0, np.uint8), (255, np.uint8), (256, np.uint16)])
def test_counts_have_the_smallest_unsigned_type(n: int, dtype: type) -> None:
    counts = population([[0.0021] * n, [0.1]]).counts(np.array([0]), 2, 5)
    assert counts.dtype == dtype
    assert counts[0, 0].tolist() == [n, 0]


def test_units_are_ordered_by_id_and_have_their_own_intervals() -> None:
    units = make_units([[0.001, 0.2], [0.002, 0.002], [0.003] * 3 + [0.2]], np.array([[0.0, 0.4]]), ids=[30, 10, 20])
    units.intervals[1:] = [0.0, 0.1]
    selected = SpikeTrains.from_units(units, np.array([True, False, True]), N_MS)
    assert selected.unit_id.tolist() == [20, 30]
    assert selected.counts(np.array([0, 40]), 1, 5)[:, 0].tolist() == [[3, 1], [0, 1]]
    coverage = selected.coverage(np.array([0, 40]), 1, 5)[:, 0]
    assert coverage[:, selected.coverage_index].tolist() == [[True, True], [False, True]]
    assert selected.observed(np.array([0, 40]), 1, 5)[:, 0].tolist() == [True, False]


per_unit = st.lists(
    st.lists(st.integers(0, N_MS), min_size=2, max_size=6, unique=True).map(
        lambda ms: np.array(sorted(ms)[: len(ms) // 2 * 2]).reshape(-1, 2) / 1000
    ),
    min_size=1,
    max_size=5,
)


@given(intervals=per_unit, bin_ms=st.sampled_from([1, 5, 20]), seed=st.integers(0, 99))
def test_each_unit_equals_a_recording_of_this_unit_alone(intervals: list[np.ndarray], bin_ms: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = [rng.uniform(0, N_MS / 1000, 20).tolist() for _ in intervals]
    units = make_units(times, None)
    units = replace(
        units, intervals=np.concatenate(intervals), interval_stops=np.cumsum([len(rows) for rows in intervals])
    )
    starts = rng.integers(-3, N_MS // bin_ms, 5)
    together = SpikeTrains.from_units(units, np.ones(len(times), dtype=bool), N_MS)
    counts, coverage = together.counts(starts, 4, bin_ms), together.coverage(starts, 4, bin_ms)
    for unit, (unit_times, rows) in enumerate(zip(times, intervals, strict=True)):
        alone = population([unit_times], rows)
        np.testing.assert_array_equal(counts[..., unit], alone.counts(starts, 4, bin_ms)[..., 0])
        np.testing.assert_array_equal(coverage[..., together.coverage_index[unit]], alone.observed(starts, 4, bin_ms))
    for mask, group in together.by_coverage():
        np.testing.assert_array_equal(counts[..., mask], group.counts(starts, 4, bin_ms))


def test_unsorted_spike_times_are_counted() -> None:
    assert population([[0.3, 0.001, 0.2]]).counts(np.array([0, 40]), 1, 5)[:, 0, 0].tolist() == [1, 1]


def test_unrecorded_units_have_neither_spikes_nor_observed_bins() -> None:
    units = SpikeTrains.empty(np.array([4, 5]))
    assert units.counts(np.array([0, 3]), 4, 5).shape == (2, 4, 2)
    assert not units.counts(np.array([0, 3]), 4, 5).any()
    assert not units.observed(np.array([0, 3]), 4, 5).any()


@pytest.mark.parametrize(
    ("time", "ms"), [(0.0, 0), (0.0009999, 0), (0.0009999999999, 1), (0.29, 290), (0.57, 570), (1234.289, 1234289)]
)
def test_times_truncate_after_rounding_at_the_sixth_decimal(time: float, ms: int) -> None:
    assert to_ms(np.array([time])) == ms


@given(st.integers(0, 7_000_000))
def test_whole_milliseconds_are_exact(ms: int) -> None:
    assert to_ns(np.array([ms / 1000])) == ms * NS_PER_MS
    assert to_ms(np.array([ms / 1000])) == ms


@given(st.floats(0, 7000, allow_nan=False))
def test_nanoseconds_equal_those_of_pandas(time: float) -> None:
    pandas = pytest.importorskip("pandas")
    assert to_ns(np.array([time]))[0] == pandas.to_timedelta(np.array([time]), unit="s").asi8[0]


@pytest.mark.parametrize(("ms", "expected"), [(0, 0), (0.001, 1), (5, 1), (5.001, 2), (-3, 0), (-5, -1)])
def test_windows_start_at_the_first_edge_at_or_after_the_event(ms: float, expected: int) -> None:
    assert ceil_to_bin(np.array([round(ms * NS_PER_MS)]), 5) == expected


@given(edges)
def test_touching_and_overlapping_intervals_are_merged(intervals: np.ndarray) -> None:
    overlapping = np.concatenate([intervals, intervals * 0.75])
    stretches = Intervals.from_intervals(overlapping, N_MS)
    inside = np.zeros(N_MS, dtype=bool)
    for start, stop in np.round(overlapping * 1000, 6):
        inside[int(np.ceil(start)) : int(np.floor(stop))] = True
    np.testing.assert_array_equal(stretches.contains(np.arange(N_MS)), inside)
    assert (stretches.starts[1:] > stretches.stops[:-1]).all()


def test_bins_after_an_interval_end_are_marked_even_if_the_next_interval_touches() -> None:
    stretches = Intervals.from_intervals(np.array([[0.0, 0.02], [0.02, 0.05]]), N_MS)
    assert len(stretches.starts) == 1
    assert stretches.after_interval_end(np.array([0, 4]), 6, 5).tolist() == [[False] * 4 + [True] * 2, [False] * 6]
