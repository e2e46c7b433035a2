"""Tests of the settings that are proposed for files whose units, times or trials need one."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.small_nwb import SmallSession, edit_file, replace_dataset, small_session, write_small

from blend_pl.data.io.clock import ClockSpec
from blend_pl.data.io.contents import read_contents
from blend_pl.data.io.unit_selection import UnitSelection
from blend_pl.data.nlb.proposal import Proposal, propose_spec
from blend_pl.data.nlb.reading import read_session
from blend_pl.errors import DataError

SESSION = small_session(n_trials=24)


def propose(path: Path) -> Proposal:
    return propose_spec(read_contents(path))


def write(tmp_path: Path, session: SmallSession = SESSION) -> Path:
    return write_small(tmp_path / "small.nwb", session)


def write_without_quality(tmp_path: Path, session: SmallSession = SESSION) -> Path:
    return edit_file(write(tmp_path, session), lambda file: file.pop("units/quality"))


def n_spikes(proposal: Proposal) -> int:
    return sum(int(session.spikes.sum()) for session in proposal.sessions.values())


def twins(first: int, second: int) -> SmallSession:
    """Returns the session with the spikes of one unit in the row of another."""
    spikes = [SESSION.spikes[first if row == second else row] for row in range(len(SESSION.spikes))]
    return replace(SESSION, spikes=spikes)


def test_plain_units_need_no_setting(tmp_path: Path) -> None:
    proposal = propose(write_without_quality(tmp_path))
    assert (proposal.spec.units, proposal.spec.clock) == (UnitSelection(), ClockSpec())
    assert not {"units", "clock", "trials"} & set(proposal.reasons)


def test_repeated_ids_are_renumbered(tmp_path: Path) -> None:
    proposal = propose(write_without_quality(tmp_path, replace(SESSION, unit_id=np.arange(8) // 2)))
    assert proposal.spec.units == UnitSelection(renumber=True)
    assert sorted(proposal.sessions["train"].unit_id.tolist()) == list(range(8))
    assert "4 ids of units occur before" in proposal.reasons["units"]


@pytest.mark.parametrize(("name", "good"), [("quality", "good"), ("KSLabel", "Good"), ("unit_type", "SUA")])
def test_good_units_are_selected_by_their_column(tmp_path: Path, name: str, good: str) -> None:
    def rename(file: h5py.File) -> None:
        del file["units/quality"]
        file["units"][name] = [good if row % 2 == 0 else "noise" for row in range(8)]

    proposal = propose(edit_file(write(tmp_path, twins(2, 5)), rename))
    assert proposal.spec.units == UnitSelection(column=name, values=[good])
    assert sorted(proposal.sessions["train"].unit_id.tolist()) == SESSION.unit_id[::2].tolist()
    assert proposal.reasons["units"] == f"4 of 8 units are left out: {name} is not {good} but noise (4)"


def test_a_column_in_which_all_units_are_good_selects_nothing(tmp_path: Path) -> None:
    path = edit_file(write(tmp_path), replace_dataset("units/quality", lambda values: np.full(8, b"good")))
    assert propose(path).spec.units == UnitSelection()


def test_a_copy_of_a_unit_is_left_out_by_a_column_that_names_units(tmp_path: Path) -> None:
    def add_names(file: h5py.File) -> None:
        file["units/channel"] = np.arange(8) * 4

    proposal = propose(edit_file(write_without_quality(tmp_path, twins(2, 5)), add_names))
    assert proposal.spec.units == UnitSelection(column="channel", values=[0, 4, 8, 12, 16, 24, 28])
    assert "channel 20 (as 8)" in proposal.reasons["units"]


def test_a_copy_of_a_unit_without_such_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"units 16 and 25 .* have the same"):
        propose(write_without_quality(tmp_path, twins(2, 5)))


@pytest.mark.parametrize("is_whole", [False, True])
def test_milliseconds_are_recognized(tmp_path: Path, is_whole: bool) -> None:
    expected = propose(write_without_quality(tmp_path))
    to_ms = replace_dataset("units/spike_times", lambda times: np.round(times * 1000, 0 if is_whole else 6))
    proposal = propose(edit_file(tmp_path / "small.nwb", to_ms))
    assert proposal.spec.clock == ClockSpec(spikes="ms")
    assert n_spikes(proposal) == pytest.approx(n_spikes(expected), rel=0.01)


def test_samples_are_converted_by_the_resolution_in_the_file(tmp_path: Path) -> None:
    path = write_without_quality(tmp_path)
    edit_file(path, replace_dataset("units/spike_times", lambda times: np.round(times * 24414.0625)))
    with pytest.raises(DataError, match="whole numbers"):
        propose(path)
    edit_file(path, lambda file: file["units/spike_times"].attrs.update(resolution=1 / 24414.0625))
    proposal = propose(path)
    assert proposal.spec.clock == ClockSpec(spikes="samples", rate_hz=24414.0625)
    assert "the resolution of spike times" in proposal.reasons["clock"]


def test_a_resolution_that_contradicts_the_behavior_is_not_used(tmp_path: Path) -> None:
    path = write_without_quality(tmp_path)
    edit_file(path, replace_dataset("units/spike_times", lambda times: np.round(times * 30000)))
    edit_file(path, lambda file: file["units/spike_times"].attrs.update(resolution=1 / 1e6))
    with pytest.raises(DataError, match="whole numbers"):
        propose(path)


@pytest.mark.parametrize(("factor", "message"), [(150.5, "150 times as long"), (30000.5, "do not overlap")])
def test_spikes_that_last_far_longer_than_the_behavior_are_refused(tmp_path: Path, factor: float, message: str) -> None:
    path = write_without_quality(tmp_path)
    edit_file(path, replace_dataset("units/spike_times", lambda times: times * factor))
    edit_file(path, lambda file: [file["units"].pop(name) for name in ("obs_intervals", "obs_intervals_index")])
    with pytest.raises(DataError, match=message):
        propose(path)


def test_events_from_the_start_of_each_trial_are_recognized(tmp_path: Path) -> None:
    path = write_without_quality(tmp_path, small_session(n_trials=40))
    expected = propose(path)
    shift = np.linspace(0, 0.01, 40)
    edit_file(path, replace_dataset("intervals/trials/go_time", lambda times: times - np.arange(40.0) + shift))
    proposal = propose(path)
    assert proposal.spec.window.align == expected.spec.window.align == "go_time"
    assert proposal.spec.clock == ClockSpec(events="trial")
    start_bins = {
        int(trial): int(start)
        for session in proposal.sessions.values()
        for trial, start in zip(session.trial_id, session.start_bin, strict=True)
    }
    bin_s = proposal.bin_ms / 1000
    for trial, start in start_bins.items():
        event_s = trial + 0.2 + shift[trial] + proposal.spec.window.start_ms / 1000
        assert start * bin_s == pytest.approx(event_s, abs=1.01 * bin_s)


def test_trials_in_a_chain_of_overlaps_are_split_in_blocks(tmp_path: Path) -> None:
    path = write_without_quality(tmp_path, small_session(n_trials=60))
    edit_file(path, lambda file: file.pop("intervals/trials/go_time"))
    edit_file(path, replace_dataset("intervals/trials/start_time", lambda times: times / 4))
    edit_file(path, replace_dataset("intervals/trials/stop_time", lambda times: times / 4 + 1.0))
    proposal = propose(path)
    assert (proposal.spec.split.column, proposal.spec.split.by) == (None, "block")
    assert "60 of 60 windows overlap in one chain" in proposal.reasons["split"]
    ends = {name: session.start_bin.numpy() for name, session in proposal.sessions.items()}
    n_bins = proposal.sessions["train"].spikes.shape[1]
    assert ends["train"].max() + n_bins <= ends["val"].min()
    assert ends["val"].max() + n_bins <= ends["test"].min()


def test_a_split_in_the_file_that_shares_spikes_is_not_used(tmp_path: Path) -> None:
    path = write_without_quality(tmp_path, small_session(n_trials=60))
    edit_file(path, lambda file: file.pop("intervals/trials/go_time"))
    edit_file(path, replace_dataset("intervals/trials/start_time", lambda times: times / 4))
    edit_file(path, replace_dataset("intervals/trials/stop_time", lambda times: times / 4 + 1.0))
    edit_file(path, lambda file: file["intervals/trials"].create_dataset("split", data=["train", "val"] * 30))
    proposal = propose(path)
    assert proposal.spec.split.column is None
    assert "not the split of the file" in proposal.reasons["split"]


def test_trials_in_another_table_are_used(tmp_path: Path) -> None:
    path = write_without_quality(tmp_path)
    edit_file(path, lambda file: file.move("intervals/trials", "intervals/reaches"))
    proposal = propose(path)
    assert proposal.spec.trials == "intervals/reaches"
    assert proposal.spec.window.align == "go_time"


def test_constant_columns_of_behavior_are_left_out(tmp_path: Path) -> None:
    name = "processing/behavior/hand_vel/data"
    path = edit_file(write(tmp_path), replace_dataset(name, lambda data: np.insert(data, 1, 0.0, axis=1)))
    behavior = propose(path).spec.behavior
    assert behavior is not None
    assert (behavior.series, behavior.columns) == ("hand_vel", [0, 2])


def split_velocity(path: Path, names: tuple[str, ...], constant: str = "") -> Path:
    """Writes the columns of the velocity as series of their own; one of them is constant."""

    def edit(file: h5py.File) -> None:
        module = file["processing/behavior"]
        for column, name in enumerate(names):
            file.copy(module["hand_vel"], module, name)
            values = module["hand_vel/data"][:, column % 2] + column
            del module[f"{name}/data"]
            module[f"{name}/data"] = np.zeros_like(values) if name == constant else values
        del module["hand_vel"]

    return edit_file(path, edit)


@pytest.mark.parametrize("names", [("vel_x", "vel_y"), ("handX", "handY"), ("vel_0", "vel_1"), ("vel_y", "vel_x")])
def test_axes_of_one_signal_are_joined(tmp_path: Path, names: tuple[str, ...]) -> None:
    proposal = propose(split_velocity(write(tmp_path), names))
    assert proposal.spec.behavior is not None
    assert proposal.spec.behavior.series == sorted(names)
    assert "2 series are the axes of one signal" in proposal.reasons["behavior"]
    behavior = proposal.sessions["train"].behavior
    assert behavior is not None
    assert behavior.shape[-1] == 2


def test_constant_axes_of_a_signal_are_left_out(tmp_path: Path) -> None:
    path = split_velocity(write(tmp_path), ("vel_x", "vel_y", "vel_z"), constant="vel_z")
    behavior = propose(path).spec.behavior
    assert behavior is not None
    assert (behavior.series, behavior.columns) == (["vel_x", "vel_y", "vel_z"], [0, 1])


def test_series_of_different_times_are_not_joined(tmp_path: Path) -> None:
    path = split_velocity(write(tmp_path), ("vel_x", "vel_y"))
    edit_file(path, replace_dataset("processing/behavior/vel_y/timestamps", lambda times: times + 0.01))
    behavior = propose(path).spec.behavior
    assert behavior is not None
    assert behavior.series == "vel_x"


def test_a_rate_that_is_too_low_is_a_remark(tmp_path: Path) -> None:
    path = write_without_quality(tmp_path, small_session(n_trials=40))
    proposal = propose(path)
    edit_file(path, lambda file: [file["units"].pop(name) for name in ("obs_intervals", "obs_intervals_index")])
    edit_file(path, replace_dataset("units/spike_times", lambda times: np.round(times * 30_000)))
    for rate_hz, remark in (
        (30_000.0, ""),
        (20_000.0, "with clock.rate_hz: 20000, the spikes last 59.96 s, 1.5 times"),
    ):
        spec = replace(proposal.spec, clock=ClockSpec("samples", rate_hz))
        left_out = read_session(spec, path, None, 20)["train"].left_out
        assert ("clock.rate_hz" in left_out) == bool(remark)
        assert remark in left_out
