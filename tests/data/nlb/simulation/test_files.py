"""Tests of the files of simulated sessions."""

import multiprocessing
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from blend_pl.data.nlb.simulation import files as simulated_files
from blend_pl.data.nlb.simulation.files import GROUND_TRUTH_FILE, TEST_FILE, TRAIN_FILE, write_session
from blend_pl.data.nlb.simulation.ground_truth import read_rates, read_test_targets
from blend_pl.data.nlb.simulation.parameters import NLBSimulation
from blend_pl.errors import DataError

TINY = NLBSimulation(n_train=6, n_val=3, n_test=4, n_none=1, n_units=7, n_heldout=2)
SESSION = replace(TINY, n_train=24, n_val=8, n_test=9, n_none=3, n_units=21, n_heldout=5)
FILES = (TRAIN_FILE, TEST_FILE, GROUND_TRUTH_FILE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "session"
    write_session(SESSION, folder)
    return folder


def datasets(path: Path) -> dict[str, np.ndarray]:
    values_by_name = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: values_by_name.update({name: item[()]} if isinstance(item, h5py.Dataset) else {})
        )
    return {name: values for name, values in values_by_name.items() if not name.startswith("specifications")}


def units(path: Path) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    with h5py.File(path) as file:
        table = file["units"]
        times = np.split(table["spike_times"][()], table["spike_times_index"][:-1].astype(int))
        intervals = np.split(table["obs_intervals"][()], table["obs_intervals_index"][:-1].astype(int))
        return table["id"][()], table["heldout"][()], times, intervals


def trials(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        table = {name: column[()] for name, column in file["intervals/trials"].items()}
    return {name: values.astype(str) if values.dtype == object else values for name, values in table.items()}


def test_equal_parameters_give_equal_files(folder, tmp_path):
    write_session(SESSION, tmp_path / "again")
    for name in FILES:
        first, second = datasets(folder / name), datasets(tmp_path / "again" / name)
        assert first.keys() == second.keys()
        for key in first:
            np.testing.assert_array_equal(first[key], second[key], err_msg=f"{name}: {key}")


def test_another_seed_changes_the_session(folder, tmp_path):
    write_session(replace(SESSION, seed=1), tmp_path / "other")
    first, second = datasets(folder / TRAIN_FILE), datasets(tmp_path / "other" / TRAIN_FILE)
    for key in ("units/spike_times", "units/heldout", "intervals/trials/move_onset_time", "intervals/trials/split"):
        assert not np.array_equal(first[key], second[key], equal_nan=first[key].dtype.kind == "f"), key


def test_number_of_units_does_not_change_behavior(folder, tmp_path):
    write_session(replace(SESSION, n_units=30), tmp_path / "more")
    first, second = datasets(folder / TRAIN_FILE), datasets(tmp_path / "more" / TRAIN_FILE)
    for key in ("processing/behavior/hand_vel/data", "intervals/trials/move_onset_time"):
        np.testing.assert_array_equal(first[key], second[key])


def test_trials_of_the_train_file(folder):
    table = trials(folder / TRAIN_FILE)
    expected = (
        "start_time stop_time target_on_time go_cue_time move_onset_time rt split trial_type trial_version success"
    )
    assert set(expected.split()) <= set(table)
    split, onset = table["split"], table["move_onset_time"]
    assert {name: int((split == name).sum()) for name in np.unique(split)} == {"train": 24, "val": 8, "none": 3}
    np.testing.assert_array_equal(np.isnan(onset), split == "none")
    np.testing.assert_array_equal(np.isnan(table["rt"]), split == "none")
    has_onset = split != "none"
    np.testing.assert_allclose((onset - table["go_cue_time"])[has_onset] * 1000, table["rt"][has_onset])
    assert (table["target_on_time"] < table["go_cue_time"]).all()
    assert (table["start_time"] <= onset - 0.25)[has_onset].all()
    assert (table["stop_time"] >= onset + 0.75)[has_onset].all()
    gaps = table["start_time"][1:] - table["stop_time"][:-1]
    assert gaps.min() >= 0.1 - 1e-9
    assert set(table["trial_type"]) == set(range(1, 9))
    assert set(table["trial_version"]) == {0, 1}


def test_units_of_the_train_file(folder):
    unit_id, heldout, times, intervals = units(folder / TRAIN_FILE)
    table = trials(folder / TRAIN_FILE)
    assert len(unit_id) == 21
    assert heldout.dtype == bool
    assert heldout.sum() == 5
    assert unit_id.min() >= 1011
    recorded = np.stack([table["start_time"], table["stop_time"]], axis=1)
    for spikes, observed in zip(times, intervals, strict=True):
        np.testing.assert_array_equal(observed, recorded)
        assert (np.diff(spikes) >= 0).all()
        row = np.searchsorted(recorded[:, 0], spikes, side="right") - 1
        assert (spikes < recorded[row, 1]).all()


def test_behavior_is_sampled_at_1_khz_within_trials(folder):
    table = trials(folder / TRAIN_FILE)
    with h5py.File(folder / TRAIN_FILE) as file:
        behavior = file["processing/behavior"]
        for name, unit in (("hand_vel", "mm/s"), ("hand_pos", "mm"), ("cursor_pos", "mm")):
            series = behavior[name]
            times = series["timestamps"][()]
            assert series["data"].shape == (len(times), 2)
            assert series["data"].attrs["unit"] == unit
            assert series.attrs["comments"] == "columns=[x,y]"
            assert np.isfinite(series["data"][()]).all()
            steps = np.diff(times)
            assert np.isclose(steps, 0.001).sum() == len(steps) - (len(table["start_time"]) - 1)
            assert steps.min() > 0
            expected = np.round(1000 * (table["stop_time"] - table["start_time"])).sum()
            assert len(times) == expected


def test_hand_moves_at_movement_onset(folder):
    table = trials(folder / TRAIN_FILE)
    with h5py.File(folder / TRAIN_FILE) as file:
        series = file["processing/behavior/hand_vel"]
        times, speed = series["timestamps"][()], np.hypot(*series["data"][()].T)
    for onset in table["move_onset_time"][table["split"] != "none"]:
        after = (times >= onset) & (times < onset + 0.65)
        before = (times >= onset - 0.4) & (times < onset - 0.15)
        assert speed[after].max() > 5 * speed[before].max()
        assert -0.05 < times[after][speed[after].argmax()] - onset < 0.5


def test_test_file_has_only_heldin_spikes_of_observed_windows(folder):
    table = trials(folder / TEST_FILE)
    assert set(table) == {"id", "start_time", "stop_time", "move_onset_time", "split"}
    assert set(table["split"]) == {"test"}
    start = 0.8 * np.arange(9)
    np.testing.assert_allclose(table["start_time"], start, atol=1e-9)
    np.testing.assert_allclose(table["stop_time"], start + 0.7, atol=1e-9)
    np.testing.assert_allclose(table["move_onset_time"], start + 0.25, atol=1e-9)
    unit_id, heldout, times, intervals = units(folder / TEST_FILE)
    train_id, train_heldout, _, _ = units(folder / TRAIN_FILE)
    np.testing.assert_array_equal(unit_id, train_id[~train_heldout])
    assert not heldout.any()
    for spikes, observed in zip(times, intervals, strict=True):
        np.testing.assert_allclose(observed, np.stack([start, start + 0.7], axis=1), atol=1e-9)
        assert (np.diff(spikes) >= 0).all()
        assert (spikes % 0.8 < 0.7 + 1e-6).all()
    assert sum(len(spikes) for spikes in times) > 100
    with h5py.File(folder / TEST_FILE) as file:
        assert "behavior" not in file["processing"]


def test_files_open_with_pynwb(folder):
    from pynwb import NWBHDF5IO, validate

    with NWBHDF5IO(folder / TRAIN_FILE, "r") as io:
        file = io.read()
        assert file.subject.subject_id == "Sim"
        assert file.units.to_dataframe().heldout.sum() == 5
        assert len(file.trials.to_dataframe()) == 35
        velocity = file.processing["behavior"]["hand_vel"]
        assert len(velocity.timestamps) == len(velocity.data)
        cursor = file.processing["behavior"]["cursor_pos"]
        np.testing.assert_array_equal(cursor.timestamps[:100], velocity.timestamps[:100])
    for name in (TRAIN_FILE, TEST_FILE):
        assert validate(path=folder / name) == []


def test_session_is_written_without_pynwb(tmp_path, monkeypatch):
    for package in ("pynwb", "hdmf"):
        monkeypatch.setitem(sys.modules, package, None)
    write_session(TINY, tmp_path / "session")
    assert all((tmp_path / "session" / name).is_file() for name in FILES)


@pytest.mark.parametrize(
    "simulation",
    [
        NLBSimulation(n_train=1, n_val=1, n_test=1, n_none=0, n_units=1, n_heldout=0),
        NLBSimulation(
            n_train=2, n_val=1, n_test=1, n_none=5, n_units=2, n_heldout=1, n_directions=1, distances_mm=(50.0,)
        ),
        NLBSimulation(n_train=3, n_val=2, n_test=1, n_units=17, n_heldout=16, private_share=0.0, delay_s=(0.0, 0.0)),
        NLBSimulation(n_train=3, n_val=1, n_test=2, n_units=3, n_heldout=1, mean_rate_hz=1e-4),
        NLBSimulation(
            n_train=3, n_val=1, n_test=1, n_units=5, n_heldout=2, gain=0.0, angle_sd=0.0, vigor_sd=0.0, duration_sd=0.0
        ),
    ],
    ids=["smallest", "one-condition", "mostly-heldout", "silent", "no-variability"],
)
def test_sessions_of_unusual_sizes_are_written(simulation, tmp_path):
    write_session(simulation, tmp_path / "odd")
    unit_id, heldout, _, _ = units(tmp_path / "odd" / TRAIN_FILE)
    assert (len(unit_id), heldout.sum()) == (simulation.n_units, simulation.n_heldout)
    truth = tmp_path / "odd" / GROUND_TRUTH_FILE
    n_rows = simulation.n_train + simulation.n_val + simulation.n_none
    rates = read_rates(truth, n_rows + np.arange(simulation.n_test), 5)
    assert rates.shape == (simulation.n_test, 180, simulation.n_units)
    assert rates.isfinite().all()
    assert read_test_targets(truth)["eval_spikes_heldout"].shape == (simulation.n_test, 140, simulation.n_heldout)


def test_existing_session_is_not_rewritten(folder):
    before = (folder / TRAIN_FILE).stat().st_mtime_ns
    write_session(SESSION, folder)
    assert (folder / TRAIN_FILE).stat().st_mtime_ns == before


@pytest.mark.parametrize("occupant", ["another session", "a file", "a truncated session", "something else"])
def test_folder_with_other_content_raises(folder, tmp_path, occupant):
    target = tmp_path / "session"
    if occupant == "another session":
        write_session(TINY, target)
    elif occupant == "a file":
        target.write_text("mine")
    elif occupant == "a truncated session":
        shutil.copytree(folder, target)
        (target / GROUND_TRUTH_FILE).write_bytes((target / GROUND_TRUTH_FILE).read_bytes()[:1000])
    else:
        target.mkdir()
        (target / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="choose another folder") as error:
        write_session(SESSION, target)
    assert "\n" not in str(error.value)


def test_session_is_written_into_an_empty_folder(tmp_path):
    write_session(TINY, tmp_path)
    assert all((tmp_path / name).is_file() for name in FILES)


def test_unwritable_parent_raises(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_session(TINY, tmp_path / "file" / "session")


def test_interrupted_write_leaves_no_files(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(simulated_files, "write_ground_truth", fail)
    with pytest.raises(KeyboardInterrupt):
        write_session(TINY, tmp_path / "session")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("competitor", [TINY, replace(TINY, seed=5)], ids=["same", "other"])
def test_concurrent_write_of_another_session_raises(tmp_path, monkeypatch, competitor):
    target = tmp_path / "session"
    write = simulated_files._write_files

    def write_after_competitor(simulation, folder):
        monkeypatch.setattr(simulated_files, "_write_files", write)
        write_session(competitor, target)
        write(simulation, folder)

    monkeypatch.setattr(simulated_files, "_write_files", write_after_competitor)
    if competitor == TINY:
        write_session(TINY, target)
    else:
        with pytest.raises(DataError):
            write_session(TINY, target)
    assert [path.name for path in tmp_path.iterdir()] == ["session"]
    assert all((target / name).is_file() for name in FILES)


def _write_after_barrier(barrier, target, failures):
    barrier.wait()
    try:
        write_session(TINY, target)
    except BaseException as error:
        failures.put(repr(error))


def test_concurrent_processes_write_one_session(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, failures = context.Barrier(3), context.SimpleQueue()
    target = tmp_path / "session"
    arguments = (barrier, target, failures)
    processes = [context.Process(target=_write_after_barrier, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert failures.empty()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["session"]
    write_session(TINY, target)


def test_small_session_is_written_within_seconds(tmp_path):
    start = time.process_time()
    write_session(NLBSimulation(n_train=60, n_val=30, n_test=30), tmp_path / "session")
    assert time.process_time() - start < 5


def test_behavior_is_missing_in_a_fraction_of_the_training_trials(folder: Path, tmp_path: Path) -> None:
    gaps_folder = tmp_path / "gaps_folder"
    write_session(replace(SESSION, missing_behavior=0.5), gaps_folder)
    complete, with_gaps = datasets(folder / TRAIN_FILE), datasets(gaps_folder / TRAIN_FILE)
    velocity = with_gaps["processing/behavior/hand_vel/data"]
    is_missing = np.isnan(velocity).any(1)
    np.testing.assert_array_equal(velocity[~is_missing], complete["processing/behavior/hand_vel/data"][~is_missing])
    seconds = with_gaps["processing/behavior/hand_vel/timestamps"]
    trial = np.searchsorted(with_gaps["intervals/trials/start_time"], seconds + 1e-6) - 1
    missing = np.array([is_missing[trial == row].all() for row in range(len(with_gaps["intervals/trials/start_time"]))])
    assert is_missing.sum() == np.isin(trial, np.flatnonzero(missing)).sum()
    assert missing.sum() == SESSION.n_train // 2
    assert set(with_gaps["intervals/trials/split"][missing]) == {b"train"}
    for name in set(complete) - {"identifier"}:
        if "behavior" not in name and np.asarray(complete[name]).dtype.kind in "iuf":
            np.testing.assert_array_equal(complete[name], with_gaps[name])
