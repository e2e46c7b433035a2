"""Tests of trials of pynapple and temporaldata objects."""

from typing import Any

import numpy as np
import pytest
import torch

from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.timeseries import bin_time_series, is_time_series
from blend_pl.errors import BlendError, ConfigError, DataError

BIN_MS, START_S, LENGTH_S = 20, 900.0, 60.0
RNG = np.random.default_rng(3)
TRIALS = START_S + np.arange(0.0, 56.0, 2.0) + 0.003
ENDS = TRIALS + np.round(RNG.uniform(0.4, 1.2, len(TRIALS)), 3)
TIMES = [np.sort(RNG.uniform(START_S, START_S + LENGTH_S, n)) for n in (400, 900, 300, 250)]
SAMPLES = np.arange(START_S, START_S + LENGTH_S, 0.01)
VELOCITY = np.stack([np.sin(SAMPLES), np.cos(2 * SAMPLES)], axis=1)


def expected_counts(start_ms: int, lengths: np.ndarray) -> np.ndarray:
    """Returns counts by numpy.histogram, NaN before the recording; bins begin at the first edge after the start."""
    counts = np.full((len(TRIALS), lengths.max(), len(TIMES)), np.nan)
    for trial, (start, length) in enumerate(zip(TRIALS, lengths, strict=True)):
        first = np.ceil(round((start * 1000 + start_ms) / BIN_MS, 6)) * BIN_MS / 1000
        edges = first + np.arange(length + 1) * BIN_MS / 1000
        for unit, times in enumerate(TIMES):
            counts[trial, :length, unit] = np.histogram(times, edges)[0]
        counts[trial, :length][edges[:-1] < START_S - 1e-6] = np.nan
    return counts


def pynapple_session(support: tuple[float, float] = (START_S, START_S + LENGTH_S)) -> tuple[Any, Any, Any]:
    nap = pytest.importorskip("pynapple")
    spikes = nap.TsGroup(
        {7 - unit: nap.Ts(times) for unit, times in enumerate(reversed(TIMES))},
        time_support=nap.IntervalSet(*support),
    )
    return spikes, nap.TsdFrame(SAMPLES, VELOCITY, columns=["x", "y"]), nap.IntervalSet(TRIALS, ENDS)


def temporaldata_session() -> Any:
    td = pytest.importorskip("temporaldata")
    times, unit = np.concatenate(TIMES), np.repeat(np.arange(len(TIMES)), [len(each) for each in TIMES])
    order = np.argsort(times)
    domain = td.Interval(START_S, START_S + LENGTH_S)
    return td.Data(
        spikes=td.IrregularTimeSeries(timestamps=times[order], unit_index=unit[order], domain=domain),
        cursor=td.RegularTimeSeries(sampling_rate=100.0, domain_start=START_S, vel=VELOCITY),
        units=td.ArrayDict(id=np.array(["a", "b", "c", "d"])),
        trials=td.Interval(start=TRIALS, end=ENDS),
        domain=domain,
    )


@pytest.mark.parametrize("window_ms", [None, 400, (-100, 300)])
def test_counts_of_pynapple_equal_histograms(window_ms: Any) -> None:
    spikes, velocity, trials = pynapple_session()
    binned = bin_time_series(spikes, velocity, trials, window_ms, BIN_MS)
    lengths = np.full(len(TRIALS), 20)
    if window_ms is None:
        lengths = (np.round((ENDS - TRIALS) * 1000).astype(int)) // BIN_MS
    start_ms = window_ms[0] if isinstance(window_ms, tuple) else 0
    np.testing.assert_array_equal(binned.spikes, expected_counts(start_ms, lengths))
    assert binned.unit_id.tolist() == [4, 5, 6, 7]
    assert binned.behavior is not None
    assert np.array_equal(np.isnan(binned.behavior[..., 0]), np.isnan(binned.spikes[..., 0]))
    first = np.ceil(round((TRIALS[3] * 1000 + start_ms) / BIN_MS, 6)) * BIN_MS / 1000
    np.testing.assert_allclose(binned.behavior[3, :15, 0], np.sin(first + np.arange(15) * 0.02), atol=0.02)


def test_temporaldata_equals_pynapple() -> None:
    spikes, velocity, trials = pynapple_session()
    options: dict[str, Any] = {"bin_ms": BIN_MS, "conditions": np.arange(len(TRIALS)) % 2, "lag_ms": 40}
    ours = NLBDataModule.from_arrays(temporaldata_session(), "cursor.vel", **options)
    theirs = NLBDataModule.from_arrays(spikes, velocity, trials=trials, **options)
    ours.setup("fit")
    theirs.setup("fit")
    assert ours.signature.unit_id != theirs.signature.unit_id
    for name, subset in ours.subsets.items():
        other = theirs.subsets[name]
        for field in ("spikes", "observed", "scoring_mask", "condition", "behavior", "psth"):
            torch.testing.assert_close(getattr(subset, field), getattr(other, field), equal_nan=True, atol=1e-5, rtol=0)
    assert ours.spec.behavior is not None
    assert ours.spec.behavior.lag_ms == 40


def test_bins_outside_the_recording_are_unobserved() -> None:
    spikes, velocity, trials = pynapple_session((START_S + 0.5, START_S + 54.6))
    session = NLBDataModule.from_arrays(spikes, velocity, bin_ms=BIN_MS, trials=trials, window_ms=1000).arrays
    assert session is not None
    recorded = session.tensors.valid_mask(torch.arange(len(TRIALS))).numpy()
    first = np.ceil(np.round(TRIALS * 1000 / BIN_MS, 6)) * BIN_MS
    bins = first[:, None] + np.arange(50) * BIN_MS
    expected = (bins >= (START_S + 0.5) * 1000) & (bins < (START_S + 54.6) * 1000)
    assert np.array_equal(recorded, np.repeat(expected[..., None], 4, axis=2))


def test_times_before_zero_are_read() -> None:
    nap = pytest.importorskip("pynapple")
    spikes = nap.TsGroup(
        {0: nap.Ts(np.array([-1.99, -0.5])), 1: nap.Ts(np.array([-1.97, 0.4]))}, time_support=nap.IntervalSet(-2, 1)
    )
    binned = bin_time_series(spikes, None, [-2.0, -0.5], 40, BIN_MS)
    assert binned.spikes.tolist() == [[[1, 0], [0, 1]], [[1, 0], [0, 0]]]


def test_arrays_are_no_time_series() -> None:
    assert not is_time_series(np.zeros(3))
    assert not is_time_series([torch.zeros(3)])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"trials": None}, DataError, "need trials"),
        ({"trials": TRIALS}, ConfigError, "pass window_ms"),
        ({"trials": TRIALS[:, None]}, DataError, r"expected \(trials,\) starts"),
        ({"trials": [1.0, np.nan], "window_ms": 100}, DataError, "not finite"),
        ({"trials": [0.0, 901.0], "window_ms": 100}, DataError, "trial 0 starts at 0 s, where no spikes"),
        ({"trials": [[901.0, 901.01]]}, DataError, "less than one bin"),
        ({"window_ms": 90}, ConfigError, "multiple of bin_ms"),
        ({"window_ms": (100, 0)}, ConfigError, "must be positive"),
        ({"behavior": "cursor.vel"}, DataError, "no such attribute"),
        ({"behavior": np.zeros((28, 20, 1))}, DataError, "pass behavior as a time series"),
        ({"rates": np.zeros(3)}, ConfigError, "leave rates out"),
    ],
)
def test_invalid_time_series_raise_one_line(changes: dict[str, Any], error: type[BlendError], message: str) -> None:
    spikes, velocity, trials = pynapple_session()
    options: dict[str, Any] = {"behavior": velocity, "trials": trials, **changes}
    with pytest.raises(error, match=message) as raised:
        NLBDataModule.from_arrays(spikes, options.pop("behavior"), bin_ms=BIN_MS, **options)
    assert "\n" not in str(raised.value)


def test_other_objects_of_the_packages_raise() -> None:
    spikes, velocity, trials = pynapple_session()
    for wrong in (velocity, spikes[4]):
        with pytest.raises(DataError, match="pass a pynapple"):
            NLBDataModule.from_arrays(wrong, bin_ms=BIN_MS, trials=trials)
    data = temporaldata_session()
    with pytest.raises(DataError, match="no such attribute"):
        NLBDataModule.from_arrays(data, "cursor.position", bin_ms=BIN_MS)
    with pytest.raises(DataError, match="without spikes"):
        NLBDataModule.from_arrays(data.cursor, bin_ms=BIN_MS, trials=TRIALS, window_ms=100)
    with pytest.raises(ConfigError, match="pass both as one kind"):
        NLBDataModule.from_arrays(np.ones((4, 5, 3)), velocity, bin_ms=BIN_MS)
