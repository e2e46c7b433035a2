"""Tests of what was observed in recordings of a lab: intervals of units, invalid times, and the extent of spikes."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.recordings import CONTINUOUS, histogram, poisson_spikes, write_recording
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blend_pl.data.io.clock import ClockSpec
from blend_pl.data.nlb.coverage import relative_seconds
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.reading import read_session
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.nlb.spec import SplitSpec, WindowSpec
from blend_pl.errors import ConfigError, DataError

ORDER = [1, 2, 3, 4, 0, 5]
"""Held-in units come first."""


def windows_in_order(session: dict[str, SessionTensors]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns trial_id, and (trials, bins, units) counts and mask of all splits in recording order and file order."""
    index = np.concatenate([tensors.trial_id.numpy() for tensors in session.values()])
    counts = np.concatenate([tensors.spikes.numpy() for tensors in session.values()])
    masks = np.concatenate([tensors.valid_mask(torch.arange(len(tensors))).numpy() for tensors in session.values()])
    order = np.argsort(index)
    units = np.argsort(ORDER)
    return index[order], counts[order][..., units], masks[order][..., units]


@pytest.mark.parametrize("start", [0.0, 900.0, -10.0, 5000.0, 1_704_448_800.0])
def test_windows_start_where_the_recording_starts_on_any_clock(tmp_path: Path, start: float) -> None:
    base = poisson_spikes()
    spikes = [times + start for times in base]
    path = write_recording(tmp_path / "lab.nwb", spikes, series_span=(start, start + 20.0))
    session = read_session(CONTINUOUS, path, None, 20)
    index, counts, masks = windows_in_order(session)
    assert masks.all()
    expected = histogram(base, 0.0, 1000).reshape(40, 25, 6)
    # Unix times have a resolution of 0.2 us, so that a spike may cross an edge.
    assert np.abs(counts - expected[index]).sum() <= (2 if start > 1e6 else 0)
    assert len(index) >= 38
    behavior = torch.cat([tensors.behavior for tensors in session.values()])
    assert behavior[:, :, 0].isfinite().float().mean() > 0.99


def test_units_are_masked_by_their_own_intervals(tmp_path: Path) -> None:
    spikes = poisson_spikes()
    intervals = [[(0.0, 20.0)]] * 3 + [[(10.0, 20.0)]] * 3
    path = write_recording(tmp_path / "lab.nwb", spikes, intervals)
    index, counts, masks = windows_in_order(read_session(CONTINUOUS, path, None, 20))
    expected_mask = np.ones((40, 25, 6), dtype=bool)
    expected_mask[:20, :, 3:] = False
    np.testing.assert_array_equal(masks, expected_mask[index])
    expected = histogram(spikes, 0.0, 1000).reshape(40, 25, 6) * expected_mask
    np.testing.assert_array_equal(counts, expected[index])
    assert set(index) > {0, 10, 19, 20}


@pytest.mark.parametrize("tolerance", [0.0, 0.004])
def test_invalid_times_are_not_observed(tmp_path: Path, tolerance: float) -> None:
    spikes = poisson_spikes()
    path = write_recording(tmp_path / "lab.nwb", spikes, None, [(5.0 + tolerance, 10.0 - tolerance)])
    for spec in (CONTINUOUS, replace(CONTINUOUS, window=WindowSpec(0, 4000, forward_ms=0, stride_ms=5000))):
        session = read_session(replace(spec, split=SplitSpec(None, by="block", train=1.0, val=0.0)), path, None, 20)
        n_bins = session["train"].spikes.shape[1]
        starts = np.concatenate([np.arange(0, 5.01 - n_bins * 0.02, n_bins * 0.02)])
        expected = [histogram(spikes, start, n_bins) for start in (*starts, *(10.0 + starts), *(15.0 + starts))]
        _, counts, masks = windows_in_order(session)
        assert masks.all()
        assert sorted(map(bytes, counts)) == sorted(bytes(window.astype(np.uint8)) for window in expected)


def test_trials_in_invalid_times_are_left_out_and_partly_invalid_ones_masked(tmp_path: Path) -> None:
    events = np.arange(0.5, 19.0, 1.0)
    path = write_recording(
        tmp_path / "lab.nwb", poisson_spikes(), None, [(5.2, 7.7), (6.0, np.inf)], {"start_time": events}
    )
    window = WindowSpec(0, 400, align="start_time", forward_ms=0)
    spec = replace(CONTINUOUS, window=window, split=SplitSpec(None, train=0.5, val=0.5))
    index, counts, masks = windows_in_order(read_session(spec, path, None, 20))
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert masks[:4].all()
    assert masks.all()
    spec = replace(spec, window=replace(window, start_ms=-500, stop_ms=500))
    index, counts, masks = windows_in_order(read_session(spec, path, None, 20))
    assert index.tolist() == [0, 1, 2, 3, 4, 5]
    assert masks[5].any(axis=1).tolist() == [True] * 10 + [False] * 40
    assert not counts[~masks].any()


def test_windows_end_with_the_spikes_and_not_with_the_camera(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "lab.nwb", poisson_spikes(5.0, 15.0), series_span=(0.0, 40.0))
    index, counts, masks = windows_in_order(
        read_session(replace(CONTINUOUS, split=SplitSpec(None, train=1.0, val=0.0, by="block")), path, None, 20)
    )
    assert len(index) == 20
    assert masks.all()
    assert (counts.sum(axis=(1, 2)) > 60).all()


@pytest.mark.parametrize("interval", [(0.0, np.inf), (-np.inf, np.inf), (-np.inf, 20.0)])
def test_open_ended_intervals_end_with_the_recording(tmp_path: Path, interval: tuple[float, float]) -> None:
    spikes = poisson_spikes()
    open_ended = read_session(CONTINUOUS, write_recording(tmp_path / "a.nwb", spikes, [[interval]] * 6), None, 20)
    closed = read_session(CONTINUOUS, write_recording(tmp_path / "b.nwb", spikes, [[(0.0, 20.0)]] * 6), None, 20)
    for split, tensors in closed.items():
        assert torch.equal(open_ended[split].spikes, tensors.spikes)
        assert torch.equal(open_ended[split].observed, tensors.observed)


@pytest.mark.parametrize(
    ("intervals", "invalid_times", "message"),
    [
        ([[(0.0, np.nan)]] * 6, None, r"obs_interval 0 to nan s of the unit in row 0"),
        ([[(0.0, 20.0)]] * 5 + [[(9.0, 3.0)]], None, r"obs_interval 9 to 3 s of the unit in row 5"),
        (
            [[(1000.0, 1020.0)]] * 6,
            None,
            r"spikes of .* are from 0.001 to 19.999 s and obs_intervals from 1000 to 1020 s: they do not overlap",
        ),
        (None, [(3.0, np.nan)], r"invalid_times from 3 to nan s \(row 0\)"),
        (None, [(1.0, 2.0), (6.0, 5.0)], r"invalid_times from 6 to 5 s \(row 1\)"),
        (None, [(0.0, 20.0)], r"no window of 500 ms fits"),
    ],
)
def test_unusable_intervals_raise(
    tmp_path: Path,
    intervals: list[list[tuple[float, float]]] | None,
    invalid_times: list[tuple[float, float]] | None,
    message: str,
) -> None:
    path = write_recording(tmp_path / "lab.nwb", poisson_spikes(), intervals, invalid_times)
    with pytest.raises(DataError, match=message):
        read_session(CONTINUOUS, path, None, 20)


def test_recording_without_spikes_raises(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "lab.nwb", [np.empty(0)] * 6)
    with pytest.raises(DataError, match="has no spikes"):
        read_session(CONTINUOUS, path, None, 20)


def test_unit_without_intervals_is_observed_if_it_has_spikes(tmp_path: Path) -> None:
    spikes = poisson_spikes()
    spikes[4] = np.empty(0)
    path = write_recording(tmp_path / "lab.nwb", spikes, [[(0.0, 20.0)]] * 3 + [[]] * 3)
    _, _, masks = windows_in_order(read_session(CONTINUOUS, path, None, 20))
    assert masks.all(axis=(0, 1)).tolist() == [True, True, True, True, False, True]
    assert not masks[..., 4].any()


def test_silent_units_are_observed_in_a_file_without_intervals(tmp_path: Path) -> None:
    spikes = [times if unit not in (0, 3) else np.empty(0) for unit, times in enumerate(poisson_spikes())]
    _, counts, masks = windows_in_order(
        read_session(CONTINUOUS, write_recording(tmp_path / "lab.nwb", spikes), None, 20)
    )
    assert masks.all()
    assert not counts[..., [0, 3]].any()


coverages = st.lists(
    st.lists(st.integers(0, 1000), min_size=2, max_size=6, unique=True).map(
        lambda bins: [
            (start / 50, stop / 50) for start, stop in np.array(sorted(bins)[: len(bins) // 2 * 2]).reshape(-1, 2)
        ]
    ),
    min_size=6,
    max_size=6,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(intervals=coverages, invalid=st.none() | st.tuples(st.integers(0, 999), st.integers(1, 300)))
def test_mask_equals_a_table_of_bins(
    tmp_path: Path, intervals: list[list[tuple[float, float]]], invalid: tuple[int, int] | None
) -> None:
    spikes = poisson_spikes()
    invalid_times = None if invalid is None else [(invalid[0] / 50, (invalid[0] + invalid[1]) / 50)]
    events = {"start_time": np.arange(0.0, 20.0, 0.5)}
    path = write_recording(tmp_path / "lab.nwb", spikes, intervals, invalid_times, events)
    table = np.zeros((1000, 6), dtype=bool)
    for unit, rows in enumerate(intervals):
        for start, stop in rows:
            table[round(start * 50) : round(stop * 50), unit] = True
    if invalid is not None:
        table[invalid[0] : invalid[0] + invalid[1]] = False
    table = table.reshape(40, 25, 6)
    window = WindowSpec(0, 400, align="start_time", forward_ms=100)
    # Intervals much shorter than the spikes are refused unless the spec confirms the clock.
    spec = replace(
        CONTINUOUS, window=window, split=SplitSpec(None, train=1.0, val=0.0), clock=ClockSpec("s"), behavior=None
    )
    expected_index = np.flatnonzero(table[:, :20, 1:5].any(axis=(1, 2)))
    if not len(expected_index):
        with pytest.raises(DataError):
            read_session(spec, path, None, 20)
        return
    index, counts, masks = windows_in_order(read_session(spec, path, None, 20))
    np.testing.assert_array_equal(index, expected_index)
    np.testing.assert_array_equal(masks, table[index])
    np.testing.assert_array_equal(counts, (histogram(spikes, 0.0, 1000).reshape(40, 25, 6) * table)[index])


@given(start=st.integers(-10_000, 2_000_000_000), us=st.integers(0, 10**9))
def test_relative_times_are_exact_to_a_microsecond(start: int, us: int) -> None:
    relative = relative_seconds(np.array([start + us / 1e6]), float(start))
    assert relative[0] == us / 1e6 if abs(start) > 1e8 else abs(relative[0] - us / 1e6) < 1e-9


def test_overlapping_trials_are_refused_at_random_and_divided_into_blocks(tmp_path: Path) -> None:
    events = np.arange(0.5, 19.0, 0.2)
    path = write_recording(tmp_path / "lab.nwb", poisson_spikes(), trials={"start_time": events})
    window = WindowSpec(0, 400, align="start_time", forward_ms=100)
    at_random = replace(CONTINUOUS, window=window, split=SplitSpec(None))
    with pytest.raises(ConfigError, match="93 of 93 windows overlap others"):
        read_session(at_random, path, None, 20)
    session = read_session(replace(at_random, split=SplitSpec(None, by="block")), path, None, 20)
    bins = {
        split: {int(start) + bin_ for start in tensors.start_bin for bin_ in range(25)}
        for split, tensors in session.items()
    }
    assert not bins["train"] & bins["val"]
    assert not bins["val"] & bins["test"]
    n_left_out = 93 - sum(map(len, session.values()))
    assert n_left_out == 6  # 500 ms every 200 ms: 3 windows across each of two borders
    assert "6 of 93 trials (6.45 %) extend across borders of blocks" in session["train"].left_out


def test_column_with_splits_that_overlap_raises(tmp_path: Path) -> None:
    events = np.arange(0.5, 18.5, 0.2)
    split = np.array(["train", "train", "val"] * 30).astype("S")
    path = write_recording(tmp_path / "lab.nwb", poisson_spikes(), trials={"start_time": events, "split": split})
    spec = replace(CONTINUOUS, window=WindowSpec(0, 400, align="start_time", forward_ms=100), split=SplitSpec())
    with pytest.raises(DataError, match="59 of 90 windows overlap windows of another split in column 'split'"):
        read_session(spec, path, None, 20)
    spec = replace(spec, window=replace(spec.window, stop_ms=200))
    session = read_session(spec, path, None, 20)
    assert "59 of 90 trials (65.6 %) share forward bins with another split" in session["train"].left_out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"obs_intervals": [[(0.0, 20.0)]] * 3 + [[(10.0, 20.0)]] * 3},
            "3 of 6 units are not observed in 50 % of the bins",
        ),
        ({"invalid_times": [(5.0, 10.0)]}, "invalid_times cover 25 % of the recording"),
        ({"series_span": (0.0, 40.0)}, "50 % of speed is outside the time with spikes"),
        ({"series_span": (0.0, 20.0)}, ""),
        ({"obs_intervals": [[(0.0, 20.0)]] * 6}, ""),
    ],
)
def test_warning_says_once_what_is_left_out(
    tmp_path: Path, settings: dict[str, object], message: str, recwarn: pytest.WarningsRecorder
) -> None:
    write_recording(tmp_path / "lab.nwb", poisson_spikes(), **settings)
    spec = replace(CONTINUOUS, split=SplitSpec(None, by="block", train=0.5, val=0.5))
    module = NLBDataModule(spec, str(tmp_path), 20)
    module.setup("fit")
    module.setup("test")
    texts = [str(warning.message) for warning in recwarn if "lab.nwb" in str(warning.message)]
    assert len(texts) == (message != "")
    assert all(message in text and "\n" not in text for text in texts)
    cached = NLBDataModule(spec, str(tmp_path), 20)
    cached.setup("fit")
    assert message in cached.subsets["train"].left_out


def test_silence_of_all_units_is_reported(tmp_path: Path) -> None:
    spikes = [times[(times < 6) | (times > 13)] for times in poisson_spikes()]
    session = read_session(CONTINUOUS, write_recording(tmp_path / "lab.nwb", spikes), None, 20)
    assert re.search(r"no unit has a spike from 5\.9\d+ to 13\.0\d+ s", session["train"].left_out)
    path = write_recording(tmp_path / "said.nwb", spikes, None, [(6.0, 13.0)])
    assert "no unit" not in read_session(CONTINUOUS, path, None, 20)["train"].left_out
