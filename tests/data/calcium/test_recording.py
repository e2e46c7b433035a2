import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.calcium.recording import interpolate_to_frames, one_hot_states, require_increasing
from blend_pl.errors import DataError


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 0.2), st.integers(0, 2**31))
def test_a_straight_line_is_found_again_at_any_time_stamps(slope: float, start: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.01, 0.3, 80))
    frames = np.arange(times[0] + shift, times[-1], 0.23344)
    np.testing.assert_allclose(
        interpolate_to_frames(times, start + slope * times, frames), start + slope * frames, atol=1e-4
    )


def test_short_gaps_are_bridged_and_long_ones_are_not() -> None:
    times = np.arange(0, 10, 0.1)
    values = times.copy()
    values[(times > 2) & (times < 2.8)] = np.nan
    values[(times > 5) & (times < 6.5)] = np.nan
    found = interpolate_to_frames(times, values, np.array([2.5, 4.0, 5.05, 5.8, 6.45, 7.0]))
    np.testing.assert_allclose(found, [2.5, 4.0, np.nan, np.nan, np.nan, 7.0], atol=1e-6)


def test_beyond_the_series_nothing_is_known() -> None:
    found = interpolate_to_frames(np.array([1.0, 1.5, 2.0]), np.array([7.0, 8.0, 9.0]), np.array([0.9, 1.0, 2.0, 2.1]))
    np.testing.assert_array_equal(found, np.array([np.nan, 7, 9, np.nan], np.float32))


def test_a_series_without_any_value_is_missing_throughout() -> None:
    assert np.isnan(interpolate_to_frames(np.arange(3.0), np.full(3, np.nan), np.arange(3.0))).all()


def test_a_state_is_a_category() -> None:
    found = one_hot_states(np.array([0, 2, np.nan, 1]), "here")
    np.testing.assert_array_equal(found, [[1, 0, 0], [0, 0, 1], [np.nan] * 3, [0, 1, 0]])


@pytest.mark.parametrize("state", [3, -1, 0.5])
def test_unknown_states_are_refused(state: float) -> None:
    with pytest.raises(DataError, match=rf"frame.states.npy has the state {state:g}; there are 0 running"):
        one_hot_states(np.array([0.0, state]), "frame.states.npy")


@pytest.mark.parametrize(
    ("times", "message"),
    [([0, 2, 1], r"out of order \(sample 2 at 1 s"), ([0, 1, 1], "out of order"), ([0, 1, np.inf], "not finite")],
)
def test_time_goes_on(times: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        require_increasing(np.array(times), "frame.times.npy")
