"""Tests of the time of a recording in which its units were observed, against numpy."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.probe_files import SECONDS, potentials, write_probes

from blend_pl.data.lfp.coverage import observed_bins
from blend_pl.data.lfp.nwb import read_nwb
from blend_pl.data.lfp.spec import LFPSeriesNames
from blend_pl.errors import DataError

TIMES = [np.sort(np.random.default_rng(unit).uniform(0, 100, 1000)) for unit in range(6)]
NONE: list[np.ndarray | None] = [None] * 6
NO_ROWS = np.empty((0, 2))


def test_silence_at_the_ends_of_a_recording_is_left_out() -> None:
    times = [unit_times[(unit_times > 20) & (unit_times < 70)] for unit_times in TIMES]
    start, n_bins, notes = observed_bins(times, NONE, NO_ROWS, 0.0, 10_000, "a.nwb")
    spikes = np.concatenate(times)
    assert start - 0.01 < spikes.min() <= start
    assert start + 0.01 * n_bins <= spikes.max() < start + 0.01 * (n_bins + 1)
    assert notes == (
        f"a.nwb: {100 - n_bins / 100:.3g} % of the recording is left out, in which units were not observed",
    )


def test_recording_with_spikes_throughout_is_kept() -> None:
    assert observed_bins(TIMES, NONE, NO_ROWS, 0.0, 10_000, "a.nwb") == (0.0, 10_000, ())
    few = [unit_times[:1] for unit_times in TIMES]
    assert observed_bins(few, NONE, NO_ROWS, 0.0, 10_000, "a.nwb") == (0.0, 10_000, ())
    assert observed_bins([], [], NO_ROWS, 3.0, 10_000, "a.nwb") == (3.0, 10_000, ())


def test_intervals_of_all_units_are_intersected() -> None:
    intervals = [np.array([[50.0, np.inf], [10.0 + unit, 50.0]]) for unit in range(6)]
    start, n_bins, _ = observed_bins(TIMES, intervals, np.array([[1.0, 15.0]]), 0.0, 10_000, "a.nwb")
    assert (start, n_bins) == (15.0, 8_500)


@pytest.mark.parametrize(
    ("rows", "invalid_times", "message"),
    [
        ([[0.0, 40.0], [45.0, 100.0]], NO_ROWS, "not observed from 40 to 45 s"),
        ([[0.0, 100.0]], np.array([[30.0, 31.0]]), "invalid_times from 30 to 31 s inside"),
        ([[200.0, 300.0]], NO_ROWS, "no time in which all units"),
    ],
)
def test_gaps_inside_of_a_recording_raise(rows: list[list[float]], invalid_times: np.ndarray, message: str) -> None:
    intervals = [np.array([[0.0, 100.0]])] * 5 + [np.array(rows)]
    with pytest.raises(DataError, match=message):
        observed_bins(TIMES, intervals, invalid_times, 0.0, 10_000, "a.nwb")


def test_signals_of_a_file_are_those_of_the_observed_time(tmp_path: Path) -> None:
    path = tmp_path / "day1.nwb"
    write_probes(path, {"ElectricalSeries": {"data": potentials(6)}})
    names = LFPSeriesNames(velocity="hand_vel", line_hz=None)
    whole = read_nwb(path, names, 1.0)
    with h5py.File(path, "a") as file:
        file["units/obs_intervals"] = np.tile([[0.25 * SECONDS, 0.75 * SECONDS]], (6, 1))
        file["units/obs_intervals_index"] = np.arange(1, 7)
    half = read_nwb(path, names, 1.0)
    first = round(0.25 * SECONDS * 100)
    inside = slice(first, first + half.n_bins)
    assert half.n_bins == pytest.approx(0.5 * SECONDS * 100, abs=1)
    for name in ("spikes", "lfp", "behavior"):
        np.testing.assert_allclose(getattr(half, name), getattr(whole, name)[inside], rtol=1e-4, atol=1e-9)
    assert "of the recording is left out" in half.notes[-1]
