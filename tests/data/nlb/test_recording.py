"""Tests of reading one file of a session: its clocks, units and trials."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.small_nwb import SmallSession, edit_file, replace_dataset, small_session, write_small

from blend_pl.data.io.clock import ClockSpec
from blend_pl.data.io.unit_selection import UnitSelection
from blend_pl.data.nlb.recording import NLBRecording, read_nlb_recording
from blend_pl.data.nlb.spec import BehaviorSpec, SessionFiles, SessionSpec, WindowSpec
from blend_pl.errors import ConfigError, DataError

SESSION = small_session()
CONTINUOUS = SessionSpec("s", SessionFiles("small.nwb"), WindowSpec(0, 600, stride_ms=800), BehaviorSpec("hand_vel"))
TRIALS = replace(CONTINUOUS, window=WindowSpec(0, 600, align="go_time"))


def read(path: Path, spec: SessionSpec = CONTINUOUS) -> NLBRecording:
    return read_nlb_recording(path, spec, 20, behavior_required=True)


def per_unit(change: Callable[[np.ndarray], np.ndarray]) -> SmallSession:
    return replace(SESSION, spikes=[change(times) for times in SESSION.spikes])


def test_spikes_in_ms_are_refused_or_converted(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", per_unit(lambda times: times * 1000))
    edit_file(path, lambda file: [file["units"].pop(name) for name in ("obs_intervals", "obs_intervals_index")])
    with pytest.raises(DataError, match=r"set clock\.spikes: ms"):
        read(path)
    units = read(path, replace(CONTINUOUS, clock=ClockSpec("ms"))).units
    for row, times in enumerate(SESSION.spikes):
        np.testing.assert_allclose(units.spike_times(row), times, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint32])
def test_spikes_in_samples_are_refused_or_converted(tmp_path: Path, dtype: type) -> None:
    path = write_small(tmp_path / "small.nwb", per_unit(lambda times: np.round(times * 30_000).astype(dtype)))
    with pytest.raises(DataError, match=r"whole numbers, .* set clock\.spikes: ms, or clock\.spikes: samples with"):
        read(path)
    units = read(path, replace(CONTINUOUS, clock=ClockSpec("samples", 30_000.0))).units
    np.testing.assert_array_equal(units.times, np.round(np.concatenate(SESSION.spikes) * 30_000) / 30_000)


def test_behavior_in_ms_is_refused(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", replace(SESSION, times=SESSION.times * 1000))
    with pytest.raises(DataError, match=r"hand_vel from 0 to 19999 s, 1001 times as long"):
        read(path)


def test_trials_in_ms_are_refused(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    for name in ("start_time", "stop_time", "go_time"):
        edit_file(path, replace_dataset(f"intervals/trials/{name}", lambda times: times * 1000))
    edit_file(path, lambda file: [file["units"].pop(name) for name in ("obs_intervals", "obs_intervals_index")])
    with pytest.raises(DataError, match=r"20 of 20 trials .* have go_time outside of the spikes"):
        read(path, TRIALS)


def test_sorted_spikes_of_trials_that_restart_are_refused(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", per_unit(lambda times: np.sort(times % SESSION.trial_s)))
    with pytest.raises(DataError, match=r"outside of the spikes .*from the start of each trial"):
        read(path, TRIALS)


def test_events_from_the_start_of_the_trial_are_refused_or_converted(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    latency = np.random.default_rng(0).uniform(0.1, 0.9, len(SESSION.starts))
    edit_file(path, replace_dataset("intervals/trials/go_time", lambda _: latency))
    with pytest.raises(DataError, match=r"\d+ of 20 trials with go_time outside .*: set clock\.events: trial, or set"):
        read(path, TRIALS)
    trials = read(path, replace(TRIALS, clock=ClockSpec(events="trial"))).trials
    assert trials is not None
    np.testing.assert_array_equal(trials["go_time"], SESSION.starts + latency)
    np.testing.assert_array_equal(trials["start_time"], SESSION.starts)
    trusted = read(path, replace(TRIALS, clock=ClockSpec(events="session"))).trials
    assert trusted is not None
    np.testing.assert_array_equal(trusted["go_time"], latency)


def test_equal_times_in_all_trials_are_refused(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    edit_file(path, replace_dataset("intervals/trials/go_time", lambda times: np.full_like(times, 0.5)))
    with pytest.raises(DataError, match=r"only 1 different times go_time in 20 trials: .* set window\.align"):
        read(path, TRIALS)


def test_trials_that_end_before_they_start_are_refused(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    edit_file(path, replace_dataset("intervals/trials/stop_time", lambda times: times - 3.0))
    with pytest.raises(DataError, match="20 trials that end before they start"):
        read(path, TRIALS)


def test_float32_events_late_in_a_session_are_refused(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    edit_file(path, replace_dataset("intervals/trials/go_time", lambda times: (times + 18_000).astype(np.float32)))
    with pytest.raises(DataError, match=r"go_time .* are float32, which resolves 2 ms at 18019"):
        read(path, TRIALS)


def test_some_trials_without_the_event_are_accepted(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    edit_file(path, replace_dataset("intervals/trials/go_time", lambda times: np.where(times < 5, np.nan, times)))
    trials = read(path, TRIALS).trials
    assert trials is not None
    assert np.isnan(trials["go_time"]).sum() == 5


def test_unix_time_of_all_clocks_is_read(tmp_path: Path) -> None:
    start = 1_704_448_800.0
    session = replace(
        SESSION,
        spikes=[times + start for times in SESSION.spikes],
        starts=SESSION.starts + start,
        times=SESSION.times + start,
    )
    path = write_small(tmp_path / "small.nwb", session)
    edit_file(path, lambda file: [file["units"].pop(name) for name in ("obs_intervals", "obs_intervals_index")])
    recording = read(path, TRIALS)
    assert recording.n_ms < 21_000


def test_units_are_selected_by_a_column(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    units = read(path, replace(CONTINUOUS, units=UnitSelection(column="quality", values=["good"]))).units
    assert units.id.tolist() == SESSION.unit_id[::2].tolist()
    for row, times in enumerate(SESSION.spikes[::2]):
        np.testing.assert_array_equal(units.spike_times(row), times)
        np.testing.assert_array_equal(units.obs_intervals(row), [[0.0, 20.0]])
    assert set(units.columns["quality"]) == {"good"}
    with pytest.raises(DataError, match=r"no row with quality best; set units\.values to some of its values: good \(4"):
        read(path, replace(CONTINUOUS, units=UnitSelection(column="quality", values=["best"])))
    with pytest.raises(DataError, match=r"no column 'snr'; set units\.column to one it has: quality"):
        read(path, replace(CONTINUOUS, units=UnitSelection(column="snr", values=[1])))
    with pytest.raises(ConfigError, match="belong together"):
        UnitSelection(column="quality")


def test_repeated_ids_are_refused_renumbered_or_avoided_by_a_selection(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", replace(SESSION, unit_id=np.arange(8) // 2))
    with pytest.raises(DataError, match=r"4 unit ids that occur more than once \(first: 0\).* units\.renumber: true"):
        read(path)
    assert read(path, replace(CONTINUOUS, units=UnitSelection(renumber=True))).units.id.tolist() == list(range(8))
    good = UnitSelection(column="quality", values=["good"])
    assert read(path, replace(CONTINUOUS, units=good)).units.id.tolist() == [0, 1, 2, 3]


def moved_units(*places: str) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        for place in places:
            file.copy("units", place)
        del file["units"]

    return edit


def test_units_in_a_processing_module_are_found(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    edit_file(path, moved_units("processing/ecephys/units"))
    edit_file(path, replace_dataset("processing/ecephys/units/spike_times_index", lambda stops: stops))
    units = read(path).units
    np.testing.assert_array_equal(units.times, np.concatenate(SESSION.spikes))


def test_one_of_several_units_tables_is_named(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    edit_file(path, moved_units("processing/ecephys/units", "processing/probe_b/units"))
    with pytest.raises(DataError, match=r"units\.table to processing/ecephys/units or processing/probe_b/units"):
        read(path)
    with pytest.raises(DataError, match="no units table probe_c/units; set"):
        read(path, replace(CONTINUOUS, units=UnitSelection(table="probe_c/units")))
    units = read(path, replace(CONTINUOUS, units=UnitSelection(table="probe_b/units"))).units
    np.testing.assert_array_equal(units.times, np.concatenate(SESSION.spikes))


def test_trials_in_another_table_are_found_or_named(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    edit_file(path, lambda file: file.move("intervals/trials", "intervals/reaches"))
    trials = read(path, TRIALS).trials
    assert trials is not None
    np.testing.assert_array_equal(trials["start_time"], SESSION.starts)
    assert read(path, CONTINUOUS).trials is None
    edit_file(path, lambda file: file.copy("intervals/reaches", "intervals/epochs"))
    with pytest.raises(DataError, match=r"no trials table but .* set trials to intervals/epochs or intervals/reaches"):
        read(path, TRIALS)
    with pytest.raises(DataError, match=r"no table of intervals 'trials'; set trials to intervals/epochs or"):
        read(path, replace(TRIALS, trials="trials"))
    assert read(path, replace(TRIALS, trials="reaches")).trials is not None


def test_doubles_within_a_unit_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_small(tmp_path / "small.nwb", per_unit(lambda times: np.repeat(times, 2)))
    with caplog.at_level(logging.WARNING):
        read(path)
    assert "in 8 of 8 units; each counts as a spike" in caplog.text


@pytest.mark.parametrize("align", [False, True])
def test_open_ended_intervals_reach_to_the_end_of_the_recording(tmp_path: Path, align: bool) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    expected = read(path, TRIALS if align else CONTINUOUS)
    edit_file(path, replace_dataset("units/obs_intervals", lambda rows: np.where([False, True], np.inf, rows)))
    recording = read(path, TRIALS if align else CONTINUOUS)
    np.testing.assert_array_equal(recording.units.times, expected.units.times)
    assert recording.units.intervals is not None
    assert np.isfinite(recording.units.intervals).all()
    assert recording.units.intervals[:, 1].min() >= SESSION.times[-1] - 0.1


@pytest.mark.parametrize("name", ["start_time", "stop_time", "go_time"])
def test_times_with_several_columns_are_refused(tmp_path: Path, name: str) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    edit_file(path, replace_dataset(f"intervals/trials/{name}", lambda times: np.stack([times, times], 1)))
    with pytest.raises(DataError, match=rf"{name} of shape .*one time per trial is needed"):
        read(path, TRIALS)


@pytest.mark.parametrize("name", ["start_time", "stop_time"])
@pytest.mark.parametrize("align", [False, True])
def test_bounds_of_trials_with_several_columns_are_refused_where_no_event_is_read(
    tmp_path: Path, name: str, align: bool
) -> None:
    path = write_small(tmp_path / "small.nwb", SESSION)
    edit_file(path, replace_dataset(f"intervals/trials/{name}", lambda times: np.stack([times, times + 1], 1)))
    edit_file(path, lambda file: [file.pop(f"units/{column}") for column in ("obs_intervals", "obs_intervals_index")])
    message = rf"the trials table of {path} has {name} of shape \(\d+, 2\), and one time per trial is needed; repair"
    with pytest.raises(DataError, match=message):
        read(path, TRIALS if align else CONTINUOUS)


def test_samples_of_a_wrong_unit_are_refused_with_a_unit_set(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.nwb", per_unit(lambda times: np.round(times * 300_000)))
    edit_file(path, lambda file: [file["units"].pop(name) for name in ("obs_intervals", "obs_intervals_index")])
    with pytest.raises(DataError, match="300 times as long"):
        read(path, replace(CONTINUOUS, clock=ClockSpec("ms")))


def test_ms_without_other_times_are_refused(tmp_path: Path) -> None:
    hour = 3600.0
    spikes = [np.sort(np.random.default_rng(unit).uniform(0, 4 * hour, 400)) for unit in range(8)]
    path = write_small(tmp_path / "small.nwb", replace(SESSION, spikes=spikes))
    edit_file(path, lambda file: [file["units"].pop(name) for name in ("obs_intervals", "obs_intervals_index")])
    with pytest.raises(DataError, match=r"0\.028 Hz for 4\.0 hours .* set clock\.spikes"):
        read(path, replace(CONTINUOUS, behavior=None))


def test_descending_times_of_one_unit_are_named(tmp_path: Path) -> None:
    spikes = [times[::-1] if unit == 3 else times for unit, times in enumerate(SESSION.spikes)]
    path = write_small(tmp_path / "small.nwb", replace(SESSION, spikes=spikes))
    with pytest.raises(DataError, match=r"of unit 19 .* they descend"):
        read(path)
