"""Tests of calcium recordings in NWB files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.calcium import neuprint
from helpers.calcium_files import write_calcium
from helpers.systems import trainer
from hypothesis import given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO, TimeSeries
from pynwb.misc import IntervalSeries

from blend_pl.data.calcium import CalciumNWBDataModule, CalciumSpec
from blend_pl.data.calcium.nwb import read_calcium_nwb
from blend_pl.data.calcium.spec import CalciumNWBNames, CellSplit
from blend_pl.errors import ConfigError, DataError

SPEC = CalciumSpec("custom", recordings=["**/*.nwb"], behavior=["speed"], cells=CellSplit(0.5, 0.25))
NAMES = CalciumNWBNames(cell_id="cell_id", state="state")


def test_recording_equals_the_content_of_the_file(tmp_path: Path) -> None:
    written = write_calcium(tmp_path / "day1.nwb")
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)
    np.testing.assert_allclose(recording.activity, written["activity"], rtol=1e-6)
    np.testing.assert_allclose(recording.times, written["times"])
    assert recording.label.tolist() == written["label"].tolist()
    assert recording.mouse == "M1"
    assert recording.cell_id.tolist() == [f"M1/{int(number)}" for number in written["id"]]
    assert recording.identified.all()
    np.testing.assert_allclose(recording.behavior[:, 0], np.sin(written["times"]), atol=1e-3)
    nearest = np.abs(written["speed_times"][:, None] - written["times"]).argmin(0)
    assert np.array_equal(recording.behavior[:, 1:].argmax(1), written["state"][nearest])


def add_series(path: Path, series: TimeSeries) -> None:
    with NWBHDF5IO(path, "a") as io:
        file = io.read()
        file.add_acquisition(series)
        io.write(file)


@settings(max_examples=10, deadline=None)
@given(
    bounds=st.lists(st.integers(4_000, 38_000), min_size=2, max_size=24, unique=True).map(sorted),
    starts_inside=st.booleans(),
)
def test_intervals_are_states_at_the_frames(
    tmp_path_factory: pytest.TempPathFactory, bounds: list[int], starts_inside: bool
) -> None:
    path = tmp_path_factory.mktemp("blinks") / "a.nwb"
    frames = write_calcium(path)["times"]
    times = np.array(bounds) / 1000
    codes = np.where(np.arange(len(times)) % 2 == starts_inside, 1, -1).astype(np.int8)
    add_series(path, IntervalSeries(name="blinks", data=codes, timestamps=times))
    n_passed = (times[None] <= frames[:, None] + 1e-6).sum(1)
    expected = (n_passed + starts_inside) % 2
    recording = read_calcium_nwb(path, replace(SPEC, behavior=["blinks", "speed"]), CalciumNWBNames())
    np.testing.assert_array_equal(recording.behavior[:, 0], expected)
    assert recording.behavior.dtype == np.float32


def test_steps_hold_until_the_next_sample_and_other_series_are_interpolated(tmp_path: Path) -> None:
    path = tmp_path / "a.nwb"
    frames = write_calcium(path)["times"]
    times, values = np.array([6.0, 9.3, 20.0, 30.05]), np.array([1.0, 4.0, np.nan, 2.0])
    add_series(path, TimeSeries(name="block", data=values, unit="1", timestamps=times, continuity="step"))
    recording = read_calcium_nwb(path, replace(SPEC, behavior=["block"]), CalciumNWBNames())
    last = (times[None] <= frames[:, None] + 1e-6).sum(1) - 1
    np.testing.assert_array_equal(recording.behavior[:, 0], np.where(last < 0, np.nan, values[last]).astype(np.float32))


@pytest.mark.parametrize("masks", ["image", "pixel"])
def test_position_is_the_center_of_the_mask(tmp_path: Path, masks: str) -> None:
    written = write_calcium(tmp_path / "day1.nwb", masks=masks)
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)
    np.testing.assert_allclose(recording.position, written["position"][:, :2].round() + 1)


def test_position_is_read_from_a_column(tmp_path: Path) -> None:
    written = write_calcium(tmp_path / "day1.nwb", masks="column")
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, replace(NAMES, position="place"))
    np.testing.assert_allclose(recording.position, written["position"], rtol=1e-6)


def test_cells_without_an_id_have_ids_of_their_file(tmp_path: Path) -> None:
    write_calcium(tmp_path / "day1.nwb", id=np.array([np.nan] * 5 + [*range(31)], dtype=float))
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)
    assert 0 < (~recording.identified).sum() <= 5
    assert all("day1/row" in cell for cell in recording.cell_id[~recording.identified])
    without_ids = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, replace(NAMES, cell_id=None))
    assert not without_ids.identified.any()
    assert len(set(without_ids.cell_id)) == len(without_ids.cell_id)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"activity": "raw"},
            r"one RoiResponseSeries raw, it has: processing/ophys/DfOverF/dff; set data\.names\.activity",
        ),
        (
            {"cell_type": "subtype"},
            r"no column 'subtype'; set data\.names\.cell_type to one of its columns: .*cell_type",
        ),
        ({"cell_id": "uid"}, r"no column 'uid'; set data\.names\.cell_id"),
        ({"position": "xyz"}, r"no column 'xyz'; set data\.names\.position"),
        ({"state": "mood"}, r"no time series 'mood'"),
    ],
)
def test_missing_series_or_column_raises(tmp_path: Path, names: dict[str, str], message: str) -> None:
    write_calcium(tmp_path / "day1.nwb")
    with pytest.raises(DataError, match=message) as error:
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, replace(NAMES, **names))
    assert "\n" not in str(error.value)


def test_duplicate_id_raises(tmp_path: Path) -> None:
    write_calcium(tmp_path / "day1.nwb", id=np.full(36, 7.0))
    with pytest.raises(DataError, match=r"column cell_id of .* contains a cell id twice"):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": np.full(1050, 4.0)}, "state of .* has the state 4"),
        ({"times": np.r_[np.arange(319) * 0.1, 0.0]}, "dff in .* out of order"),
    ],
)
def test_invalid_series_raises(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_calcium(tmp_path / "day1.nwb", **changes)
    with pytest.raises(DataError, match=message):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)


def test_truncated_file_raises(tmp_path: Path) -> None:
    path = tmp_path / "day1.nwb"
    write_calcium(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="damaged or incomplete"):
        read_calcium_nwb(path, SPEC, NAMES)


def make_module(root: Path, **changes: Any) -> CalciumNWBDataModule:
    settings: dict[str, Any] = {"spec": SPEC, "names": NAMES, "window": 40, "n_steps": 3, **changes}
    return CalciumNWBDataModule(root=str(root), **settings)


def test_model_trains_on_nwb_files(tmp_path: Path) -> None:
    for day in (1, 2):
        write_calcium(tmp_path / "data" / "M1" / f"day{day}.nwb", seed=day)
    write_calcium(tmp_path / "data" / "M2" / "day1.nwb", "M2", ids=False)
    one_mouse, all_files = {"spec": replace(SPEC, mice=["M1"])}, {"names": replace(NAMES, cell_id=None)}
    for changes, n_cells in ((one_mouse, 36), (all_files, 3 * 34)):
        data = make_module(tmp_path / "data", **changes)
        fit_trainer = trainer(tmp_path, 1)
        fit_trainer.fit(neuprint(), datamodule=data)
        assert fit_trainer.callback_metrics["train/loss"].isfinite()
        assert n_cells - 3 <= len(data.cells) <= n_cells


def test_patterns_without_a_match_raise(tmp_path: Path) -> None:
    write_calcium(tmp_path / "day1.nwb")
    for spec, message in (
        (replace(SPEC, recordings=["*.h5"]), r"no file matches \*\.h5 in .*set data\.root or data\.spec\.recordings"),
        (replace(SPEC, mice=["M9"]), r"correct data\.root, data\.spec\.recordings or data\.spec\.mice"),
    ):
        with pytest.raises(DataError, match=message):
            make_module(tmp_path, spec=spec).setup("fit")


@pytest.mark.parametrize(("state", "series"), [(True, None), (False, "state")])
def test_state_setting_must_agree_with_the_state_series(tmp_path: Path, state: bool, series: str | None) -> None:
    with pytest.raises(
        ConfigError, match=r"set data\.names\.state to a series of states .*, or set data\.spec\.state to false"
    ):
        make_module(tmp_path, spec=replace(SPEC, state=state), names=replace(NAMES, state=series))


def test_series_without_rois_raises(tmp_path: Path) -> None:
    path = tmp_path / "day1.nwb"
    write_calcium(path)
    with h5py.File(path, "a") as file:
        del file["processing/ophys/DfOverF/dff/rois"]
    with pytest.raises(DataError, match="references no ROIs"):
        read_calcium_nwb(path, SPEC, NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"times": np.r_[np.arange(200), np.arange(220, 340)] * 0.1 + 5.0},
            "no frames from 24.9 to 27 s; split the file",
        ),
        ({"speed_times": np.arange(1050) * 43.7}, "speed of .* has no value during the frames"),
    ],
)
def test_pauses_and_behavior_of_another_clock_raise(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_calcium(tmp_path / "day1.nwb", **changes)
    with pytest.raises(DataError, match=message):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)


def test_constant_behavior_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "day1.nwb"
    write_calcium(path, speed=np.full(1050, 2.5))
    recording = read_calcium_nwb(path, SPEC, NAMES)
    assert f"{path}: speed has the value 2.5 in all frames, which carries no information" in recording.notes
    write_calcium(tmp_path / "day2.nwb")
    assert not any(
        "carries no information" in note for note in read_calcium_nwb(tmp_path / "day2.nwb", SPEC, NAMES).notes
    )


def add_invalid_times(path: Path, *intervals: tuple[float, float]) -> None:
    with NWBHDF5IO(path, "a") as io:
        file = io.read()
        for start, stop in intervals:
            file.add_invalid_time_interval(start_time=start, stop_time=stop)
        io.write(file)


def test_frames_in_invalid_times_are_neither_scored_nor_part_of_statistics(tmp_path: Path) -> None:
    artifact = np.random.default_rng(5).normal(1, 2, (320, 34))
    written = write_calcium(tmp_path / "a" / "day1.nwb", activity=artifact)
    is_invalid = ((written["times"] >= 8.0) & (written["times"] < 12.0)) | (written["times"] >= 35.0)
    artifact[is_invalid] += 1e4
    for folder in ("a", "b"):
        write_calcium(tmp_path / folder / "day1.nwb", activity=artifact)
        add_invalid_times(tmp_path / folder / "day1.nwb", (8.0, 12.0), (9.0, 10.0), (35.0, np.inf))
        artifact[is_invalid] -= 3e4
    recordings = [read_calcium_nwb(tmp_path / folder / "day1.nwb", SPEC, NAMES) for folder in ("a", "b")]
    for recording in recordings:
        np.testing.assert_array_equal(np.isnan(recording.activity).all(1), is_invalid)
        np.testing.assert_array_equal(np.isnan(recording.behavior).all(1), is_invalid)
        n_invalid = int(is_invalid.sum())
        share = f"{n_invalid} of 320 frames ({100 * n_invalid / 320:.2g} %) are in invalid_times and are left out"
        assert [note.partition(": ")[2] for note in recording.notes] == [share]
    sessions = []
    for folder in ("a", "b"):
        data = make_module(tmp_path / folder)
        data.setup("fit")
        sessions.append(data.sessions[0])
    session = sessions[0]
    np.testing.assert_array_equal(session.valid.numpy(), np.tile(~is_invalid[:, None], 34))
    valid_training = written["activity"][: session.n_train_frames][~is_invalid[: session.n_train_frames]]
    expected = (written["activity"] - valid_training.mean(0)) / valid_training.std(0)
    np.testing.assert_allclose(session.activity[~is_invalid].numpy(), expected[~is_invalid], rtol=1e-3, atol=1e-4)
    for name in ("activity", "population_context", "behavior", "behavior_valid"):
        np.testing.assert_array_equal(getattr(session, name).numpy(), getattr(sessions[1], name).numpy())
    assert not session.activity[is_invalid].any()


@pytest.mark.parametrize(
    ("interval", "message"),
    [((0.0, 50.0), "invalid_times that cover all 320 frames"), ((27.0, 50.0), "0 of validation time, fewer than")],
)
def test_too_few_valid_frames_raise(tmp_path: Path, interval: tuple[float, float], message: str) -> None:
    write_calcium(tmp_path / "day1.nwb")
    add_invalid_times(tmp_path / "day1.nwb", interval)
    with pytest.raises(DataError, match=message):
        make_module(tmp_path).setup("fit")
