"""Reader of NWB files: a RoiResponseSeries, behavior, and a cell-type column of the plane segmentation."""

from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.calcium.recording import CalciumRecording, one_hot_states
from blend_pl.data.calcium.spec import BEHAVIOR_STATES, CalciumNWBNames, CalciumSpec
from blend_pl.data.io.nwb import find_series, open_nwb, read_subject_id, read_time_series
from blend_pl.data.resample import interpolate_to_frames
from blend_pl.errors import DataError


def read_calcium_nwb(path: Path, spec: CalciumSpec, names: CalciumNWBNames) -> CalciumRecording:
    """Reads one file and interpolates behavior onto its frames.

    Args:
        path: the file.
        spec: specifies the behavior.
        names: names of series and columns in the file.

    Raises:
        DataError: the file is damaged, or lacks a series or a column; numbers of ROIs disagree; timestamps are out of
            order; states are unknown.
    """
    with open_nwb(path) as file:
        mouse = read_subject_id(file, path.stem)
        response_series = find_series(file, "RoiResponseSeries", names.activity, "data.names.activity")
        series = read_time_series(file, response_series.name.removeprefix("/"))
        plane_segmentation, roi_rows = _read_plane_segmentation(file, response_series, series.data.shape[1])
        label = _read_column(plane_segmentation, names.cell_type, "data.names.cell_type").astype(str)[roi_rows]
        cell_id, identified = _read_cell_ids(plane_segmentation, names.cell_id, roi_rows, mouse, path)
        position = _read_positions(plane_segmentation, names.position)[roi_rows]
        channels = [_interpolate_nwb_series(file, name, series.timestamps) for name in spec.behavior]
        if names.state is not None:
            states = read_time_series(file, names.state)
            nearest_state_index = np.searchsorted(
                (states.timestamps[1:] + states.timestamps[:-1]) / 2, series.timestamps
            )
            channels.append(
                one_hot_states(states.data[nearest_state_index, 0].astype(np.float64), f"{names.state} of {path}")
            )
    return CalciumRecording(
        name=path.name,
        mouse=mouse,
        times=series.timestamps,
        activity=series.data.astype(np.float32),
        behavior=np.concatenate(channels, axis=1) if channels else np.empty((len(series.timestamps), 0), np.float32),
        n_states=len(BEHAVIOR_STATES) if names.state is not None else 0,
        cell_id=cell_id,
        identified=identified,
        label=label,
        position=position,
    )


def _read_plane_segmentation(file: h5py.File, series: h5py.Group, n_rois: int) -> tuple[h5py.Group, np.ndarray]:
    """Returns the plane segmentation and the rows of the series' ROIs in it."""
    region = series.get("rois")
    if region is None or "table" not in region.attrs:
        raise DataError(f"{series.name} in {file.filename} references no ROIs; add its rois")
    rows = region[()].astype(np.int64)
    if len(rows) != n_rois:
        raise DataError(f"{series.name} in {file.filename} has {n_rois} columns and {len(rows)} ROIs; repair the file")
    return file[region.attrs["table"]], rows


def _read_column(table: h5py.Group, name: str, setting: str) -> np.ndarray:
    if name not in table:
        available = ", ".join(key for key, item in table.items() if isinstance(item, h5py.Dataset))
        raise DataError(
            f"the plane segmentation of {table.file.filename} has no column {name!r}; set {setting} to one of its "
            f"columns: {available}"
        )
    dataset = table[name]
    column: np.ndarray = dataset.asstr()[()] if h5py.check_string_dtype(dataset.dtype) else dataset[()]
    return column


def _read_cell_ids(
    table: h5py.Group, column: str | None, rows: np.ndarray, mouse: str, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    if column is None:
        return np.array([f"{mouse}/{path.stem}/row{row}" for row in rows]), np.zeros(len(rows), dtype=bool)
    ids = _read_column(table, column, "data.names.cell_id")[rows]
    identified = np.isfinite(ids) if ids.dtype.kind == "f" else np.array([str(value) != "" for value in ids])
    cell_id = [
        f"{mouse}/{int(value) if ids.dtype.kind == 'f' else value}"
        if is_identified
        else f"{mouse}/{path.stem}/row{row}"
        for value, row, is_identified in zip(ids, rows, identified, strict=True)
    ]
    if len(set(cell_id)) < len(cell_id):
        raise DataError(
            f"column {column} of {path} contains a cell id twice; make ids unique, or set data.names.cell_id to null"
        )
    return np.array(cell_id), identified


def _read_positions(table: h5py.Group, column: str | None) -> np.ndarray:
    """Returns (ROIs, 2 or 3) positions, NaN where missing."""
    if column is not None:
        return np.asarray(_read_column(table, column, "data.names.position"), dtype=np.float32)
    if "image_mask" in table:
        return np.array([_centroid(np.argwhere(mask > 0)) for mask in table["image_mask"]], dtype=np.float32)
    if "pixel_mask" in table and "pixel_mask_index" in table:
        pixels = table["pixel_mask"][()]
        roi_pixels = np.split(
            np.stack([pixels["x"], pixels["y"]], axis=1), table["pixel_mask_index"][()][:-1].astype(int)
        )
        return np.array([_centroid(roi) for roi in roi_pixels], dtype=np.float32)
    return np.full((len(table["id"]), 2), np.nan, dtype=np.float32)


def _centroid(pixels: np.ndarray) -> np.ndarray:
    return pixels.mean(0) if len(pixels) else np.full(2, np.nan)


def _interpolate_nwb_series(file: h5py.File, name: str, frame_times: np.ndarray) -> np.ndarray:
    series = read_time_series(file, name)
    return np.stack([interpolate_to_frames(series.timestamps, column, frame_times) for column in series.data.T], axis=1)
