"""Tests of clocks: spike times against the other times of a recording."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blend_pl.data.io.clock import ClockSpec, check_events_in_recording, check_spike_clock, describe_duration
from blend_pl.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
SPIKES = np.sort(RNG.uniform(0, 240, 24 * 12 * 240))
SERIES = np.arange(24_000) / 100
UNIX_S = 1_704_448_800.0


@pytest.mark.parametrize(
    ("spikes", "series", "message"),
    [
        (SPIKES * 1000, SERIES, r"1000 times as long: spike times are not seconds; set clock\.spikes: ms"),
        (SPIKES * 30_000, SERIES, r"30\d{3} times as long: .* samples \(with clock\.rate_hz\)"),
        (SPIKES, SERIES * 1000, "1000 times as long: spike times count from the start of each trial, or the others"),
        (SPIKES / 1000, SERIES, "1000 times as long"),
        (SPIKES % 2.0, SERIES, "120 times as long: spike times count from the start of each trial"),
        (SPIKES % 4.0, SERIES, "fire at 720 Hz .* count from the start of each trial"),
        (SPIKES, SERIES + UNIX_S, r"from 1\.70445e\+09 to .*: they do not overlap"),
        (SPIKES + UNIX_S, SERIES, "they do not overlap"),
        (-SPIKES, SERIES + 2.0, "they do not overlap"),
    ],
)
def test_other_clocks_raise(spikes: np.ndarray, series: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        check_spike_clock(np.sort(spikes), 24, {"cursor_vel": series}, "a.nwb")
    assert "\n" not in str(caught.value)
    assert "or set clock.spikes: s if they are right" in str(caught.value)


def test_milliseconds_without_other_times_are_refused_by_their_rate() -> None:
    with pytest.raises(DataError, match=r"fire at 0\.0\d+ Hz for .* hours if spike times are sec.*; set clock\.spikes"):
        check_spike_clock(SPIKES[::4] * 1000, 24, {}, "a.nwb")


@given(
    start=st.floats(-1e5, 1e5),
    duration=st.floats(60, 20_000),
    rate_hz=st.floats(0.05, 100),
    coverage=st.floats(0.05, 1),
    unix=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_seconds_of_one_clock_are_accepted(
    start: float, duration: float, rate_hz: float, coverage: float, unix: bool
) -> None:
    origin = start + (UNIX_S if unix else 0.0)
    spikes = origin + np.linspace(0, duration, max(int(rate_hz * min(duration, 100)), 20))
    series = origin + np.linspace(0, coverage * duration, 100)
    check_spike_clock(spikes, max(int(len(spikes) / duration), 1), {"series": series}, "a.nwb")


@given(factor=st.sampled_from([1000.0, 10_000.0, 24_414.0625, 30_000.0]), duration=st.floats(60, 20_000))
@settings(max_examples=50, deadline=None)
def test_ticks_are_refused_for_any_duration(factor: float, duration: float) -> None:
    spikes, series = np.linspace(0, duration, 1000), np.linspace(0, 0.5 * duration, 100)
    with pytest.raises(DataError, match=r"not seconds; set clock\.spikes"):
        check_spike_clock(spikes * factor, 10, {"series": series}, "a.nwb")


def test_trials_after_the_last_spike_raise() -> None:
    starts = np.arange(0, 240, 4.0)
    with pytest.raises(DataError, match=r"58 of 60 trials .* have go_time outside of the spikes \(first: 8 s"):
        check_events_in_recording(starts, np.sort(SPIKES % 4.0), None, "go_time", "a.nwb")
    check_events_in_recording(starts, SPIKES, None, "go_time", "a.nwb")


def test_trials_that_were_not_observed_do_not_count() -> None:
    starts, spikes = np.arange(0, 240, 4.0), SPIKES[SPIKES < 20]
    check_events_in_recording(starts, spikes, np.array([[0.0, 20.0]]), "go_time", "a.nwb")
    with pytest.raises(DataError, match="outside of the spikes"):
        check_events_in_recording(starts, spikes, np.array([[0.0, 240.0]]), "go_time", "a.nwb")


def test_ticks_per_second() -> None:
    assert ClockSpec().ticks_per_second is None
    assert ClockSpec("s").ticks_per_second == 1.0
    assert ClockSpec("ms").ticks_per_second == 1000.0
    assert ClockSpec("samples", 30_000.0).ticks_per_second == 30_000.0
    for spikes, rate_hz in (("samples", None), ("ms", 30_000.0), (None, 1.0)):
        with pytest.raises(ConfigError, match="set both or neither"):
            ClockSpec(spikes, rate_hz)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ratio", "clock", "setting"),
    [
        (1.5, ClockSpec("samples", 20_000.0), "clock.rate_hz: 20000"),
        (0.8, ClockSpec("samples", 37_500.0), "clock.rate_hz: 37500"),
        (0.5, ClockSpec("ms"), "clock.spikes: ms"),
    ],
)
def test_durations_that_differ_by_a_small_factor_are_described(ratio: float, clock: ClockSpec, setting: str) -> None:
    spikes = SPIKES * ratio
    line = describe_duration(spikes, clock, {"vel": SERIES, "the trials": np.array([3.0, np.nan, 200.0])})
    longer = np.ptp(spikes) / np.ptp(SERIES)
    assert line == (
        f"with {setting}, the spikes last {np.ptp(spikes):.4g} s, {longer:.3g} times as long as vel (240 s); check "
        f"{setting.partition(':')[0]}"
    )


@pytest.mark.parametrize(
    ("spikes", "clock", "other_times"),
    [
        (SPIKES * 1.15, ClockSpec("samples", 30_000.0), {"vel": SERIES}),
        (SPIKES * 0.85, ClockSpec("ms"), {"vel": SERIES, "the trials": SERIES[:100]}),
        (SPIKES * 1.5, ClockSpec(), {"vel": SERIES}),
        (SPIKES * 1.5, ClockSpec("s"), {"vel": SERIES}),
        (SPIKES * 1.5, ClockSpec("ms"), {}),
        (SPIKES[:10], ClockSpec("ms"), {"vel": SERIES}),
    ],
)
def test_durations_that_agree_or_cannot_be_compared_are_not_described(
    spikes: np.ndarray, clock: ClockSpec, other_times: dict[str, np.ndarray]
) -> None:
    assert describe_duration(spikes, clock, other_times) == ""
