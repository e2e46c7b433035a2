"""Tests of behavior in files that is not a signal, or that needs a setting."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.behavior_files import SECONDS, TIMES, VELOCITY, velocity_series, write_behavior
from hypothesis import given, settings
from hypothesis import strategies as st
from pynwb import NWBFile, TimeSeries
from pynwb.misc import IntervalSeries

from blend_pl.data import NLBDataModule
from blend_pl.data.nlb.reading import read_session
from blend_pl.data.nlb.signal_checks import is_sparse, wrap_period
from blend_pl.data.nlb.spec import BehaviorSpec, HeldOutSpec, SessionFiles, SessionSpec, SplitSpec, WindowSpec
from blend_pl.errors import BlendError, ConfigError, DataError

SPEC = SessionSpec(
    "own",
    SessionFiles("own.nwb"),
    WindowSpec(0, 600, stride_ms=800),
    BehaviorSpec("velocity"),
    HeldOutSpec(None, fraction=0.25),
    SplitSpec(None, "block"),
)
BIN_MS = 20
RNG = np.random.default_rng(0)
ANGLE = np.cumsum(RNG.normal(2.0, 3.0, len(TIMES)))


def read(path: Path, **behavior: Any) -> np.ndarray:
    """Returns the (windows, bins, D) behavior of all splits in the order of time."""
    tensors = read_session(replace(SPEC, behavior=BehaviorSpec(**behavior)), path, None, BIN_MS)
    parts = [tensors[split] for split in ("train", "val", "test")]
    order = np.argsort(np.concatenate([part.trial_id.numpy() for part in parts]))
    return np.concatenate([part.behavior.numpy() for part in parts])[order]


def starts(path: Path, **behavior: Any) -> np.ndarray:
    """Returns the (windows, bins) start times of the bins that `read` returns, s."""
    tensors = read_session(replace(SPEC, behavior=BehaviorSpec(**behavior)), path, None, BIN_MS)
    first = np.sort(np.concatenate([tensors[split].start_bin.numpy() for split in ("train", "val", "test")]))
    return (first[:, None] + np.arange(40)) * BIN_MS / 1000


def test_intervals_are_one_inside_and_zero_outside(tmp_path: Path) -> None:
    on = np.arange(0.5, SECONDS - 1, 1.5)
    off = on + RNG.uniform(0.2, 1.2, len(on)).round(3)
    bounds = np.stack([on, off], axis=1).ravel()
    series = IntervalSeries(name="running", data=np.tile([1, -1], len(on)).astype(np.int8), timestamps=bounds)
    path = write_behavior(tmp_path / "own.nwb", [series])
    at = starts(path, series="running")
    inside = ((at[..., None] >= on - 1e-9) & (at[..., None] < off - 1e-9)).any(axis=2)
    np.testing.assert_array_equal(read(path, series="running")[..., 0], inside)


def test_steps_hold_until_the_next_sample(tmp_path: Path) -> None:
    times = np.sort(RNG.uniform(0.0, SECONDS, 40)).round(3)
    values = RNG.normal(size=40)
    path = write_behavior(
        tmp_path / "own.nwb",
        [TimeSeries(name="level", data=values, timestamps=times, unit="a", continuity="step")],
    )
    at, held = starts(path, series="level"), read(path, series="level")[..., 0]
    index = np.searchsorted(times - 1e-6, at, side="right") - 1
    np.testing.assert_allclose(held, np.where(index >= 0, values[np.maximum(index, 0)], np.nan), rtol=1e-6)


def test_two_series_are_joined(tmp_path: Path) -> None:
    parts = [velocity_series(name, VELOCITY[:, column]) for column, name in enumerate(("vel_x", "vel_y"))]
    path = write_behavior(tmp_path / "own.nwb", [velocity_series(), *parts])
    np.testing.assert_array_equal(read(path, series=["vel_x", "vel_y"]), read(path, series="velocity"))
    swapped = read(path, series=["vel_y", "vel_x"])
    np.testing.assert_array_equal(swapped, read(path, series="velocity")[..., ::-1])


@pytest.mark.parametrize("shift", [0.004, 0.0])
def test_series_of_different_clocks_raise(tmp_path: Path, shift: float) -> None:
    n = len(TIMES) - (shift == 0)
    other = TimeSeries(name="other", data=VELOCITY[:n, 0], timestamps=TIMES[:n] + shift, unit="m/s")
    path = write_behavior(tmp_path / "own.nwb", [velocity_series(), other])
    with pytest.raises(DataError, match=r"velocity and other in .* have different timestamps"):
        read(path, series=["velocity", "other"])


def test_bins_without_one_coordinate_are_left_out_with_their_share(tmp_path: Path) -> None:
    data = VELOCITY.copy()
    data[500:800, 1] = np.nan
    path = write_behavior(tmp_path / "own.nwb", [velocity_series(data=data)])
    full = write_behavior(tmp_path / "full.nwb", [velocity_series()])
    behavior, complete, at = (
        read(path, series="velocity"),
        read(full, series="velocity"),
        starts(path, series="velocity"),
    )
    missing = np.isnan(behavior).all(axis=2)
    np.testing.assert_array_equal(missing, np.isnan(behavior).any(axis=2))
    assert missing[(at > 5.05) & (at < 7.95)].all()
    assert not missing[(at < 4.95) | (at > 8.05)].any()
    away = (at < 4.5) | (at > 8.5)
    np.testing.assert_allclose(behavior[away], complete[away], atol=1e-3)
    left_out = read_session(SPEC, path, None, BIN_MS)["train"].left_out
    assert "; 10 % of the bins with behavior lack some of its columns and are left out" in left_out


def test_columns_that_are_never_recorded_together_raise(tmp_path: Path) -> None:
    data = VELOCITY.copy()
    data[:1500, 0] = np.nan
    data[1490:, 1] = np.nan
    path = write_behavior(tmp_path / "own.nwb", [velocity_series(data=data)])
    with pytest.raises(DataError, match="no time at which all 2 columns have a value"):
        read(path, series="velocity")


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (velocity_series(data=np.full(len(TIMES), 3.7)), "has the value 3.7 in all samples: a constant, not a signal"),
        (
            velocity_series(data=VELOCITY * [1.0, 0.0]),
            r"has the value 0 in all samples of column 1; set behavior.columns",
        ),
        (
            TimeSeries(name="velocity", data=np.ones(12), timestamps=np.sort(RNG.uniform(0, SECONDS, 12)), unit="a"),
            "the times of events, not a signal",
        ),
        (
            TimeSeries(name="velocity", data=RNG.random(60), timestamps=np.sort(RNG.uniform(0, SECONDS, 60)), unit="a"),
            "too few for bins of 20 ms: events",
        ),
        (TimeSeries(name="velocity", data=RNG.random(15), rate=0.5, unit="a"), "a sample every 2 s, too few for bins"),
        (velocity_series(data=ANGLE % 360, unit="degrees"), "jumps by 360 .* set behavior.period to 360"),
        (velocity_series(data=np.angle(np.exp(1j * np.deg2rad(ANGLE))), unit="rad"), "behavior.period to 6.2831853"),
        (velocity_series(data=np.stack([ANGLE % 360, VELOCITY[:, 0]], axis=1), unit=""), "in column 0"),
    ],
)
def test_series_that_are_no_signal_raise(tmp_path: Path, series: TimeSeries, message: str) -> None:
    path = write_behavior(tmp_path / "own.nwb", [series])
    with pytest.raises(DataError, match=message):
        read(path, series="velocity")


def test_constant_in_all_training_windows_raises(tmp_path: Path) -> None:
    data = VELOCITY.copy()
    data[TIMES < 23.5, 1] = 2.0
    path = write_behavior(tmp_path / "own.nwb", [velocity_series(data=data)])
    with pytest.raises(DataError, match="behavior"):
        read_session(replace(SPEC, split=SplitSpec(None, "block", 0.5, 0.25)), path, None, 1)


@pytest.mark.parametrize("period", [360.0, [360.0, None]])
def test_circular_columns_become_cosine_and_sine(tmp_path: Path, period: Any) -> None:
    angle = 90 * TIMES + 20 * np.sin(TIMES)
    data = np.stack([angle % 360, VELOCITY[:, 0]], axis=1)
    path = write_behavior(tmp_path / "own.nwb", [velocity_series(data=data, unit="degrees")])
    columns = None if isinstance(period, list) else [0]
    behavior = read(path, series="velocity", period=period, columns=columns)
    at = starts(path, series="velocity", period=period, columns=columns)
    expected = np.deg2rad(90 * at + 20 * np.sin(at))
    middle = (at > 1) & (at < SECONDS - 1)
    np.testing.assert_allclose(behavior[middle, 0], np.cos(expected)[middle], atol=0.01)
    np.testing.assert_allclose(behavior[middle, 1], np.sin(expected)[middle], atol=0.01)
    assert behavior.shape[2] == (3 if isinstance(period, list) else 2)


def test_wrong_number_of_periods_raises(tmp_path: Path) -> None:
    path = write_behavior(tmp_path / "own.nwb", [velocity_series()])
    with pytest.raises(ConfigError, match=r"behavior.period has 1 entries, and 2 columns"):
        read(path, series="velocity", period=[360.0])


@given(
    period=st.sampled_from([360.0, 2 * np.pi]),
    turns_per_s=st.floats(0.2, 5.0),
    offset=st.floats(-1, 1),
    noise=st.floats(0.0, 0.02),
)
@settings(deadline=None, max_examples=40)
def test_angles_are_recognized_and_their_unwrapped_form_is_not(
    period: float, turns_per_s: float, offset: float, noise: float
) -> None:
    turns = turns_per_s * TIMES + offset + noise * np.random.default_rng(0).normal(size=len(TIMES))
    assert wrap_period(turns % 1 * period, "") == period
    assert wrap_period(turns * period, "deg") is None
    assert wrap_period(np.sin(2 * np.pi * turns) * period / 2, "deg") is None
    assert wrap_period(turns % 1 * period, "cm") is None


@pytest.mark.parametrize(("rate_hz", "sparse"), [(1000.0, False), (30.0, False), (2.0, False), (0.5, True)])
def test_regular_samples_of_a_signal_may_be_slow(rate_hz: float, sparse: bool) -> None:
    assert is_sparse(np.arange(100) / rate_hz, BIN_MS) == sparse


def test_signals_with_pauses_or_jitter_are_no_events() -> None:
    times = np.concatenate([np.arange(0, 10, 0.03), np.arange(500, 510, 0.03)])
    assert not is_sparse(times, BIN_MS)
    assert not is_sparse(np.cumsum(RNG.exponential(0.01, 1000)), BIN_MS)
    assert is_sparse(np.cumsum(RNG.exponential(1.0, 1000)), BIN_MS)


def test_columns_of_trials_with_two_values_are_two_channels(tmp_path: Path) -> None:
    target = RNG.normal(size=(28, 2)).round(3)

    def add_trials(file: NWBFile) -> None:
        file.add_trial_column("target_pos", "x and y")
        for row, position in enumerate(target):
            file.add_trial(start_time=float(row), stop_time=row + 1.0, target_pos=position)

    path = write_behavior(tmp_path / "own.nwb", [velocity_series()], add_trials)
    spec = replace(
        SPEC,
        window=WindowSpec(0, 600, "start_time"),
        behavior=BehaviorSpec("velocity", trial_columns=["target_pos"]),
        split=SplitSpec(None),
    )
    for part in read_session(spec, path, None, BIN_MS).values():
        expected = target[part.trial_id.numpy()].astype(np.float32)
        np.testing.assert_array_equal(part.behavior.numpy()[..., 2:], np.repeat(expected[:, None], 40, axis=1))
    with pytest.raises(DataError, match=r"has 2 values per row in column 'target_pos'; set behavior.categories"):
        read_session(replace(spec, behavior=BehaviorSpec(categories=["target_pos"])), path, None, BIN_MS)


COUNTS = RNG.poisson(0.5, (20, 30, 8))
WALK = RNG.normal(size=(20, 30, 2)).cumsum(axis=1)


@pytest.mark.parametrize(
    ("behavior", "message"),
    [
        (np.ones((20, 30, 1)), "arrays has the behavior 1 in all training trials"),
        (WALK * [1, 0], r"channel 1 of 2"),
        (np.stack([ANGLE[:600].reshape(20, 30) % 360, WALK[..., 0]], axis=2), "channel 0 of behavior jumps by 360"),
    ],
)
def test_arrays_that_are_no_signal_raise(behavior: np.ndarray, message: str) -> None:
    with pytest.raises(BlendError, match=message):
        NLBDataModule.from_arrays(COUNTS, behavior, bin_ms=20)


def test_arrays_use_bins_with_all_coordinates() -> None:
    behavior = WALK.copy()
    behavior[:, 10:16, 1] = np.nan
    data = NLBDataModule.from_arrays(COUNTS, behavior, bin_ms=20)
    assert data.arrays is not None
    values = data.arrays.tensors.behavior.numpy()
    assert np.isnan(values[:, 10:16]).all()
    np.testing.assert_array_equal(values[:, :10], behavior[:, :10].astype(np.float32))
    assert data.arrays.tensors.left_out.startswith("20 % of the bins with behavior")


@pytest.mark.parametrize(("unit", "full", "wrong"), [("radians", 2 * np.pi, 360.0), ("degrees", 360.0, 2 * np.pi)])
def test_period_of_another_unit_raises(tmp_path: Path, unit: str, full: float, wrong: float) -> None:
    angle = ANGLE * full / 360 % full
    path = write_behavior(tmp_path / "own.nwb", [velocity_series(data=angle, unit=unit)])
    with pytest.raises(DataError, match=f"wraps around by {full:.4g} in column 0, .* set it to {full:.8g}"):
        read(path, series="velocity", period=wrong)
    assert read(path, series="velocity", period=full).shape[2] == 2
