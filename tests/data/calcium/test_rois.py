"""Tests of ROIs of NWB files: masks, selections, planes, types and sessions."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.plane_files import FRAME_S, Plane, make_plane, write_planes
from hypothesis import given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO, TimeSeries

from blend_pl.data.calcium import CalciumNWBDataModule, CalciumSpec
from blend_pl.data.calcium.nwb import read_calcium_nwb
from blend_pl.data.calcium.population import neighbor_adjacency
from blend_pl.data.calcium.reading import read_nwb_recordings
from blend_pl.data.calcium.spec import CalciumNWBNames, CellSplit, CellTypes
from blend_pl.data.io.selection import RowSelection
from blend_pl.errors import DataError

SPEC = CalciumSpec(
    "own", recordings=["**/*.nwb"], behavior=["speed"], state=False, radius=12.0, cells=CellSplit(0.5, 0.25)
)
NAMES = CalciumNWBNames()
PLANES = CalciumNWBNames(activity=["first/RoiResponseSeries", "second/RoiResponseSeries"])


@pytest.mark.parametrize(("masks", "n_axes"), [("pixel", 2), ("image", 2), ("voxel", 3), ("volume", 3)])
def test_positions_are_the_centers_of_masks_of_any_kind(tmp_path: Path, masks: str, n_axes: int) -> None:
    plane = make_plane(12, masks=masks)
    write_planes(tmp_path / "day1.nwb", {"first": plane})
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)
    np.testing.assert_allclose(recording.position, plane.centers[:, :n_axes])
    assert recording.notes == ()
    distances = np.linalg.norm(plane.centers[:, None, :n_axes] - plane.centers[None, :, :n_axes], axis=-1)
    expected = (distances <= SPEC.radius) & ~np.eye(12, dtype=bool)
    assert np.array_equal(neighbor_adjacency(recording.position, SPEC.radius).numpy() > 0, expected)


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(8)), st.integers(3, 8), st.sampled_from(["pixel", "voxel"]))
def test_columns_follow_the_rows_of_their_rois(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], n_cells: int, masks: str
) -> None:
    path, rows = tmp_path_factory.mktemp("rois") / "day1.nwb", order[:n_cells]
    plane = make_plane(8, masks=masks)
    labels = np.array(plane.columns["cell_type"])
    write_planes(path, {"first": replace(plane, traces=plane.traces[:, rows], rows=rows)})
    recording = read_calcium_nwb(path, SPEC, NAMES)
    assert recording.label.tolist() == labels[rows].tolist()
    assert recording.cell_id.tolist() == [f"M1/day1/row{row}" for row in rows]
    np.testing.assert_allclose(recording.position, plane.centers[rows, : recording.position.shape[1]])
    np.testing.assert_allclose(recording.activity, plane.traces[:, rows], rtol=1e-6)


def test_file_without_positions_is_mentioned_with_the_consequence(tmp_path: Path) -> None:
    write_planes(tmp_path / "day1.nwb", {"first": make_plane()})
    with h5py.File(tmp_path / "day1.nwb", "a") as file:
        for name in ("pixel_mask", "pixel_mask_index"):
            del file[f"processing/ophys/ImageSegmentation/rois_first/{name}"]
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)
    assert np.isnan(recording.position).all()
    (note,) = recording.notes
    assert "has no positions of ROIs" in note
    assert "cells have no neighbors and are not matched with cells of other days; data.names.position" in note


def test_cells_with_an_empty_mask_are_mentioned_with_their_share(tmp_path: Path) -> None:
    write_planes(tmp_path / "day1.nwb", {"first": make_plane(4, masks="none")})
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)
    assert np.isnan(recording.position).all()
    assert "4 of 4 cells (100 %) have no position" in recording.notes[0]


@pytest.mark.parametrize("stops", [[9, 5, 27, 36], [9, 18, 27, 99], [9, 18]])
def test_index_of_masks_that_does_not_fit_raises(tmp_path: Path, stops: list[int]) -> None:
    write_planes(tmp_path / "day1.nwb", {"first": make_plane(4)})
    with h5py.File(tmp_path / "day1.nwb", "a") as file:
        table = file["processing/ophys/ImageSegmentation/rois_first"]
        del table["pixel_mask_index"]
        table["pixel_mask_index"] = np.array(stops, dtype=np.uint8)
    with pytest.raises(DataError, match=r"pixel_mask_index of .* does not fit its 36 values"):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)


@pytest.mark.parametrize(
    ("column", "values", "selected"),
    [
        ("Accepted", [1, 0, 1, 1, 0] * 4, [1]),
        ("iscell", [[1.0, 0.9], [0.0, 0.1], [1.0, 0.8], [1.0, 0.7], [0.0, 0.4]] * 4, [1]),
        ("quality", ["cell", "dendrite", "cell", "cell", "noise"] * 4, ["cell"]),
        ("valid", [True, False, True, True, False] * 4, [True]),
    ],
)
def test_rois_are_selected_by_a_column(tmp_path: Path, column: str, values: list[Any], selected: list[Any]) -> None:
    types = ["EC", "", "Pvalb", "Sst", ""] * 4
    plane = make_plane(columns={"cell_type": types, column: values})
    write_planes(tmp_path / "day1.nwb", {"first": plane})
    with pytest.raises(DataError, match=r"unknown type ''; add it to data\.spec\.types"):
        CalciumNWBDataModule(SPEC, str(tmp_path), NAMES, window=20).setup("fit")
    spec = replace(SPEC, rois=RowSelection(column, selected))
    (recording,) = read_nwb_recordings(spec, tmp_path, NAMES)
    accepted = [row for row in range(20) if row % 5 in (0, 2, 3)]
    assert recording.label.tolist() == [types[row] for row in accepted]
    np.testing.assert_allclose(recording.activity, plane.traces[:, accepted], rtol=1e-6)
    assert recording.notes == (f"{tmp_path / 'day1.nwb'}: 8 of 20 ROIs (40 %) are left out by data.spec.rois",)
    module = CalciumNWBDataModule(spec, str(tmp_path), NAMES, window=20)
    module.setup("fit")
    assert len(module.cells) == module.sessions[0].activity.shape[1] == 12


def test_unknown_column_of_rois_raises(tmp_path: Path) -> None:
    write_planes(tmp_path / "day1.nwb", {"first": make_plane()})
    with pytest.raises(DataError, match=r"no column 'iscell'; set data\.spec\.rois\.column to one it has: .*cell_type"):
        read_calcium_nwb(tmp_path / "day1.nwb", replace(SPEC, rois=RowSelection("iscell", [1])), NAMES)


def test_traces_of_two_planes_are_joined(tmp_path: Path) -> None:
    planes = {
        "first": make_plane(8, 300, seed=1),
        "second": make_plane(6, 299, seed=2, series={"starting_time": 0.04}, columns={"Accepted": [1, 0, 1, 1, 1, 1]}),
    }
    write_planes(tmp_path / "day1.nwb", planes)
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, PLANES)
    traces = np.concatenate([planes["first"].traces[:299], planes["second"].traces], axis=1)
    np.testing.assert_allclose(recording.activity, traces, rtol=1e-6)
    np.testing.assert_allclose(recording.times, np.arange(299) * FRAME_S)
    assert recording.cell_id[[0, 8]].tolist() == ["M1/day1/rois_first/row0", "M1/day1/rois_second/row0"]
    assert recording.label.tolist() == [*planes["first"].columns["cell_type"], *planes["second"].columns["cell_type"]]
    adjacency = neighbor_adjacency(recording.position, SPEC.radius)
    assert not adjacency[:8, 8:].any()
    assert adjacency[:8, :8].any()
    assert "cells of different planes are not neighbors" in recording.notes[0]
    assert "the last 0.33 % of the frames are not in all planes" in recording.notes[1]
    with pytest.raises(
        DataError, match=r"must have one RoiResponseSeries, it has: .*first.*second.*data\.names\.activ"
    ):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)


def test_planes_in_a_volume_keep_their_coordinates(tmp_path: Path) -> None:
    planes = {name: make_plane(8, seed=seed, masks="voxel") for seed, name in enumerate(("first", "second"))}
    write_planes(tmp_path / "day1.nwb", planes)
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, PLANES)
    np.testing.assert_allclose(recording.position, np.concatenate([plane.centers for plane in planes.values()]))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (make_plane(4, series={"starting_time": 3.0}), "differ by up to 3 s, more than a frame"),
        (make_plane(4, series={"rate": 7.0}), "only planes of one clock can be joined"),
    ],
)
def test_planes_on_other_clocks_raise(tmp_path: Path, second: Plane, message: str) -> None:
    write_planes(tmp_path / "day1.nwb", {"first": make_plane(4), "second": second})
    with pytest.raises(DataError, match=message):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, PLANES)


def test_one_roi_in_two_series_raises(tmp_path: Path) -> None:
    write_planes(tmp_path / "day1.nwb", {"first": make_plane(4)})
    twice = CalciumNWBNames(activity=["first/RoiResponseSeries", "Fluorescence/first/RoiResponseSeries"])
    with pytest.raises(DataError, match=r"has an ROI twice|must have one RoiResponseSeries"):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, twice)
    doubled = CalciumNWBNames(activity=["first/RoiResponseSeries"] * 2)
    with pytest.raises(DataError, match="has an ROI twice in the traces of"):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, doubled)


def test_transposed_traces_with_a_rate_raise(tmp_path: Path) -> None:
    plane = make_plane(20)
    write_planes(tmp_path / "day1.nwb", {"first": replace(plane, traces=plane.traces.T, rows=list(range(20)))})
    with pytest.raises(DataError, match="transposed"):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)


def test_transposed_behavior_with_a_rate_raises(tmp_path: Path) -> None:
    speed = TimeSeries(name="speed", data=np.zeros((2, 24_000)), unit="cm/s", rate=100.0)
    write_planes(tmp_path / "day1.nwb", {"first": make_plane()}, behavior=speed)
    with pytest.raises(DataError, match=r"speed .*(transposed|24000 columns)"):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)


def test_missing_frames_are_not_scored_and_not_averaged(tmp_path: Path) -> None:
    plane = make_plane(20)
    traces = plane.traces.copy()
    traces[50:80] = np.nan
    traces[100:150, 3] = np.nan
    traces[:, 7], traces[:, 9] = np.nan, 5.0
    write_planes(tmp_path / "day1.nwb", {"first": replace(plane, traces=traces)})
    module = CalciumNWBDataModule(SPEC, str(tmp_path), NAMES, window=20)
    module.setup("fit")
    (recording,), (session,) = read_nwb_recordings(SPEC, tmp_path, NAMES), module.sessions
    assert "2 of 20 traces (10 %) are constant or NaN throughout and are left out" in recording.notes[0]
    expected = np.isfinite(traces[:, [row for row in range(20) if row not in (7, 9)]])
    assert f"{100 * (1 - expected.mean()):.2g} % of the values of traces are NaN" in recording.notes[1]
    assert np.array_equal(session.valid.numpy(), expected)
    activity = np.where(expected, session.activity.numpy(), np.nan)
    others = np.delete(activity[120], 0)
    mean, std = session.population_context[120, 0, :2].numpy()
    assert mean == pytest.approx(np.nanmean(others), abs=1e-5)
    assert std == pytest.approx(np.nanstd(others), abs=1e-5)
    assert (session.population_context[50:80] == 0).all()


def test_behavior_on_another_clock_raises_and_gaps_are_mentioned(tmp_path: Path) -> None:
    times = np.arange(0, 15, 0.05)
    for start in (0.0, 1000.0):
        speed = TimeSeries(name="speed", data=np.sin(times), unit="cm/s", timestamps=start + times)
        write_planes(tmp_path / "day1.nwb", {"first": make_plane()}, behavior=speed)
        if start:
            with pytest.raises(DataError, match=r"speed of .* has no value during the frames"):
                read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)
        else:
            (note,) = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES).notes
            assert "speed is missing in 50 % of the frames" in note


def test_files_of_one_name_without_subject_are_other_cells(tmp_path: Path) -> None:
    for seed, folder in enumerate(("m1", "m2")):
        write_planes(tmp_path / folder / "day1.nwb", {"first": make_plane(seed=seed)}, subject=None)
    (tmp_path / "m1/._day1.nwb").write_bytes(b"\x00\x05\x16\x07 no recording")
    module = CalciumNWBDataModule(SPEC, str(tmp_path), NAMES, window=20)
    module.setup("fit")
    assert len(module.cells) == 40
    assert [session.name for session in module.sessions] == ["m1/day1", "m2/day1"]
    assert sorted(set(module.cells.mouse)) == ["m1/day1", "m2/day1"]
    module.sessions, module.spec = [], replace(SPEC, mice=["m2/day1"])
    module.setup("fit")
    assert len(module.cells) == 20


def test_days_of_one_subject_in_folders_of_one_name_are_other_cells_of_one_mouse(tmp_path: Path) -> None:
    for seed, folder in enumerate(("a", "b")):
        write_planes(tmp_path / folder / "imaging.nwb", {"first": make_plane(seed=seed)})
    recordings = read_nwb_recordings(SPEC, tmp_path, NAMES)
    assert {recording.mouse for recording in recordings} == {"M1"}
    assert not {*recordings[0].cell_id} & {*recordings[1].cell_id}


def test_copy_of_a_file_in_another_folder_raises(tmp_path: Path) -> None:
    write_planes(tmp_path / "a/day1.nwb", {"first": make_plane()})
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a/day1.nwb", tmp_path / "b/day2.nwb")
    with pytest.raises(DataError, match=r"b/day2\.nwb and .*a/day1\.nwb contain the same recording"):
        read_nwb_recordings(SPEC, tmp_path, NAMES)


def test_cells_of_unknown_type_are_in_no_score(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    types = ["EC", "unknown", "IN", "unknown", "Sst"] * 8
    write_planes(tmp_path / "day1.nwb", {"first": make_plane(40, columns={"cell_type": types})})
    for untyped in (["unknown"], ["IN", "unknown"]):
        spec = replace(SPEC, types=CellTypes(untyped=untyped))
        module = CalciumNWBDataModule(spec, str(tmp_path), NAMES, window=20)
        with caplog.at_level(logging.INFO):
            module.setup("fit")
        classes = module.cells.class_labels(spec.types)
        expected = {"EC": ("EC", ""), "unknown": ("", ""), "IN": ("IN", ""), "Sst": ("IN", "Sst")}
        for label, ei, subclass in zip(module.cells.label, classes["ei"], classes["subclass"], strict=True):
            assert (ei, subclass) == expected[label]
        assert "16 of 40 cells (40 %) are of unknown type and in no score of cell types: 'unknown'" in caplog.text


@pytest.mark.parametrize(("dtype", "conversion", "offset"), [(np.int16, 0.01, -3.0), (np.float32, 2.0, 0.0)])
def test_traces_are_in_the_unit_of_the_file(tmp_path: Path, dtype: type, conversion: float, offset: float) -> None:
    plane = make_plane()
    stored = ((plane.traces - offset) / conversion).astype(dtype)
    path = tmp_path / "day1.nwb"
    write_planes(path, {"first": replace(plane, traces=stored, series={"conversion": conversion, "offset": offset})})
    recording = read_calcium_nwb(path, SPEC, NAMES)
    with NWBHDF5IO(path, "r") as io:
        series = io.read().processing["ophys"]["first"]["RoiResponseSeries"]
        np.testing.assert_allclose(recording.activity, series.get_data_in_units(), rtol=1e-5, atol=1e-4)
