"""Tests of the interpolation and encoding of behavior."""

import numpy as np
import pytest

from blend_pl.data.calcium.recording import one_hot_states
from blend_pl.errors import DataError


def test_states_are_one_hot_encoded() -> None:
    result = one_hot_states(np.array([0, 2, np.nan, 1]), "here")
    np.testing.assert_array_equal(result, [[1, 0, 0], [0, 0, 1], [np.nan] * 3, [0, 1, 0]])


@pytest.mark.parametrize("state", [3, -1, 0.5])
def test_unknown_state_raises(state: float) -> None:
    with pytest.raises(DataError, match=rf"frame.states.npy has the state {state:g}; the valid states are 0 running"):
        one_hot_states(np.array([0.0, state]), "frame.states.npy")
