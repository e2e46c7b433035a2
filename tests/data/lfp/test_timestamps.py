"""Tests of the check that timestamps of field potentials are regular."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from blend_pl.data.lfp import timestamps as timestamps_module
from blend_pl.data.lfp.timestamps import check_regular_sampling
from blend_pl.errors import DataError

RATE_HZ = 1000.0
N_SAMPLES = 20_000
REGULAR = 100.0 + np.arange(N_SAMPLES) / RATE_HZ


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timestamps_module, "_CHUNK", 999)


def edited(sample: int, n_samples: int, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    times = REGULAR.copy()
    times[sample : sample + n_samples] = change(times[sample : sample + n_samples])
    return times


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, -1)])
@pytest.mark.parametrize("stored", [True, False])
def test_start_and_rate_of_regular_timestamps(tmp_path: Path, shape: tuple[int, ...], stored: bool) -> None:
    jitter = np.random.default_rng(0).uniform(-2e-3, 2e-3, N_SAMPLES)
    jitter[[0, -1]] = 0.0
    times = (REGULAR + jitter).reshape(shape)
    if not stored:
        assert check_regular_sampling(times, "lfp") == pytest.approx((100.0, RATE_HZ))
        return
    with h5py.File(tmp_path / "lfp.h5", "w") as file:
        assert check_regular_sampling(file.create_dataset("t", data=times), "lfp") == pytest.approx((100.0, RATE_HZ))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            edited(7001, 1, lambda times: times * np.nan),
            r"lfp is sampled irregularly \(by inf s\), most at sample 7001;",
        ),
        (edited(7001, 30, lambda times: times + 0.25), r"sampled irregularly \(by 0.25 s\), most at sample 70\d\d;"),
        (edited(301, 1, lambda times: times - 100.0), r"sampled irregularly \(by 100 s\), most at sample 301;"),
        (REGULAR[::-1], "sampled irregularly"),
    ],
)
def test_any_irregular_timestamp_raises(times: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_regular_sampling(times, "lfp")
