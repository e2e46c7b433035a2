"""Tests of sessions in NWB files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.lfp_files import tones, unit_times, write_lfp_nwb

from blend_pl.data.io.clock import ClockSpec
from blend_pl.data.io.unit_selection import UnitSelection
from blend_pl.data.lfp.nwb import read_nwb
from blend_pl.data.lfp.spec import LFPSeriesNames, LFPSpec
from blend_pl.data.lfp.timestamps import velocity_from_position
from blend_pl.errors import ConfigError, DataError

VELOCITY = LFPSeriesNames(velocity="vel")


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"lfp_rate": 24414.0625, "behavior_rate": 60.0, "n_channels": 2},
        {"lfp_rate": 500.0, "behavior_rate": 1000.0, "timestamps": True, "n_units": 0},
        {"lfp_rate": 200.0, "behavior_rate": 30.0, "n_channels": 64, "n_units": 90},
    ],
)
def test_recording_equals_the_content_of_the_file_at_any_rate(tmp_path: Path, layout: dict[str, Any]) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", **layout)
    recording = read_nwb(tmp_path / "day1.nwb", VELOCITY, 1.0)
    n_channels, n_units = layout.get("n_channels", 4), layout.get("n_units", 3)
    assert (recording.name, recording.subject) == ("day1", "M7")
    assert recording.n_bins == pytest.approx(3795, abs=6)
    centres = 2 + (np.arange(recording.n_bins) + 0.5) / 100
    inside = slice(1000, 3000)
    np.testing.assert_allclose(recording.lfp[inside], 7e-6 * tones(centres, n_channels)[inside], atol=2e-7)
    np.testing.assert_allclose(recording.behavior[:, 0], np.cos(centres), atol=2e-3)
    assert recording.spikes.shape[1] == len(recording.unit_id) == n_units
    for column, times in enumerate(unit_times(n_units, 0.0, 2 + recording.n_bins / 100 - 1e-6)):
        spike_bins = np.floor((times[times >= 2] - 2) * 100 + 1e-6)
        assert np.array_equal(np.flatnonzero(recording.spikes[:, column]), spike_bins)
    assert recording.channel_id[:2] == ("e1", "e2")


def test_velocity_is_computed_from_selected_columns_of_a_position(tmp_path: Path) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", behavior_rate=200.0)
    names = LFPSeriesNames(position="pos", columns=[1, 0], smoothing_ms=0.0)
    recording = read_nwb(tmp_path / "day1.nwb", names, 1.0)
    centres = 2 + (np.arange(recording.n_bins) + 0.5) / 100
    expected = np.stack([1 + np.cos(centres / 2) / 2, np.cos(centres)], 1)
    np.testing.assert_allclose(recording.behavior, expected, atol=5e-3)
    smoothed = read_nwb(tmp_path / "day1.nwb", replace(names, smoothing_ms=30.0), 1.0)
    np.testing.assert_allclose(smoothed.behavior[10:-10], expected[10:-10], atol=5e-3)
    # At its ends, a Gaussian kernel averages over one side.
    np.testing.assert_allclose(smoothed.behavior, expected, atol=0.03)


def test_smoothing_removes_noise_of_slow_tracking() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(0, 20, 0.02)
    position = np.sin(2 * np.pi * times) + rng.normal(0, 0.01, len(times))
    expected = 2 * np.pi * np.cos(2 * np.pi * (np.arange(1990) + 0.5) / 100)
    errors = [
        np.abs(velocity_from_position(times, position[:, None], 0.0, 1990, smoothing_ms)[:, 0] - expected).mean()
        for smoothing_ms in (0.0, LFPSeriesNames().smoothing_ms)
    ]
    assert errors[1] < errors[0] / 3


@pytest.mark.parametrize(
    ("ticks_per_second", "clock"),
    [(1.0, ClockSpec("s")), (1000.0, ClockSpec("ms")), (30_000.0, ClockSpec("samples", rate_hz=30_000.0))],
)
def test_spike_times_are_converted_by_the_clock(tmp_path: Path, ticks_per_second: float, clock: ClockSpec) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb")
    expected = read_nwb(tmp_path / "day1.nwb", VELOCITY, 1.0)
    with h5py.File(tmp_path / "day1.nwb", "a") as file:
        file["units/spike_times"][...] *= ticks_per_second
    recording = read_nwb(tmp_path / "day1.nwb", VELOCITY, 1.0, clock=clock)
    np.testing.assert_array_equal(recording.spikes, expected.spikes)
    if ticks_per_second > 1:
        with pytest.raises(DataError, match=r"set clock\.spikes"):
            read_nwb(tmp_path / "day1.nwb", VELOCITY, 1.0)


def test_a_rate_of_spike_times_that_is_too_low_is_noted(tmp_path: Path) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", seconds=20.0)
    with h5py.File(tmp_path / "day1.nwb", "a") as file:
        file["units/spike_times"][...] = np.round(file["units/spike_times"][...] * 30_000)
    for rate_hz, n_notes in ((30_000.0, 0), (20_000.0, 1)):
        clock = ClockSpec("samples", rate_hz=rate_hz)
        notes = read_nwb(tmp_path / "day1.nwb", VELOCITY, 1.0, clock=clock).notes
        matches = [note for note in notes if "with clock.rate_hz: 20000, the spikes last 29.7 s, 1.49 times" in note]
        assert len(matches) == n_notes
        assert sum("clock.rate_hz" in note for note in notes) == n_notes


def test_units_are_selected_from_another_table_and_numbered_by_their_row(tmp_path: Path) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb")
    expected = read_nwb(tmp_path / "day1.nwb", VELOCITY, 1.0)
    with h5py.File(tmp_path / "day1.nwb", "a") as file:
        file.copy("units", "processing/ecephys/sorted")
        file["processing/ecephys/sorted/id"][...] = 7
        file["processing/ecephys/sorted/quality"] = np.array([1, 0, 1])
    read_only = {"table": "ecephys/sorted", "column": "quality", "values": [1]}
    with pytest.raises(DataError, match="7"):
        read_nwb(tmp_path / "day1.nwb", VELOCITY, 1.0, units=UnitSelection(**read_only))
    recording = read_nwb(tmp_path / "day1.nwb", VELOCITY, 1.0, units=UnitSelection(**read_only, renumber=True))
    assert recording.unit_id == ("u0", "u2")
    np.testing.assert_array_equal(recording.spikes, expected.spikes[:, [0, 2]])
    with h5py.File(tmp_path / "day1.nwb", "a") as file:
        del file["units"]
    only = read_nwb(tmp_path / "day1.nwb", VELOCITY, 1.0, units=UnitSelection(renumber=True))
    np.testing.assert_array_equal(only.spikes, expected.spikes)


def test_events_of_trials_have_no_clock() -> None:
    with pytest.raises(ConfigError, match=r"data\.spec\.clock\.events .* have no trials; remove it"):
        LFPSpec("own", nwb=["*.nwb"], names=VELOCITY, clock=ClockSpec(events="trial"))


def test_subject_defaults_to_the_stem_of_the_file(tmp_path: Path) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", subject=None)
    assert read_nwb(tmp_path / "day1.nwb", VELOCITY, 1.0).subject == "day1"


@pytest.mark.parametrize(
    ("layout", "names", "message"),
    [
        ({}, LFPSeriesNames(velocity="speed"), "has no time series 'speed'.* it has: .*pos"),
        ({}, LFPSeriesNames(velocity="vel", lfp="other"), "one ElectricalSeries other, it has: acquisition/potentials"),
        ({}, LFPSeriesNames(velocity="vel", columns=[0, 2]), r"has 2 columns; correct data\.spec\.names\.columns"),
        ({"lfp_rate": 60.0}, VELOCITY, "has 60 samples per second"),
        ({"seconds": 40.0, "behavior_start": 39.5}, LFPSeriesNames(velocity="vel"), None),
    ],
)
def test_names_that_do_not_fit_the_file_raise(
    tmp_path: Path, layout: dict[str, Any], names: LFPSeriesNames, message: str | None
) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", **layout)
    if message is None:
        assert read_nwb(tmp_path / "day1.nwb", names, 1.0).n_bins < 60
        return
    with pytest.raises(DataError, match=message) as error:
        read_nwb(tmp_path / "day1.nwb", names, 1.0)
    assert "\n" not in str(error.value)


def test_disagreeing_and_missing_clocks_raise(tmp_path: Path) -> None:
    path = tmp_path / "day1.nwb"
    write_lfp_nwb(path)
    with h5py.File(path, "r+") as file:
        file["acquisition/potentials/starting_time"][()] = 900.0
    with pytest.raises(DataError, match=r"the clocks of vel .* and acquisition/potentials of .* do not agree"):
        read_nwb(path, VELOCITY, 1.0)
    with h5py.File(path, "r+") as file:
        del file["acquisition/potentials/starting_time"]
    with pytest.raises(DataError, match="without times; add a starting_time"):
        read_nwb(path, VELOCITY, 1.0)


def test_truncated_file_raises(tmp_path: Path) -> None:
    path = tmp_path / "day1.nwb"
    write_lfp_nwb(path)
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(DataError, match="damaged or incomplete"):
        read_nwb(path, VELOCITY, 1.0)
