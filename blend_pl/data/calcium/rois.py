"""ROIs of an NWB file: labels, ids and positions of the columns of one or more RoiResponseSeries."""

from dataclasses import dataclass

import h5py
import numpy as np

from blend_pl.data.calcium.roi_positions import has_masks, read_mask_centers, stack_planes
from blend_pl.data.calcium.spec import CalciumNWBNames
from blend_pl.data.io.selection import RowSelection, read_selected_rows, read_selection_column
from blend_pl.errors import DataError

PLANE_DISTANCE_RADII = 1000.0
"""Distance between two planes in multiples of the radius of neighbors, so that their ROIs are not neighbors."""


@dataclass(frozen=True)
class RoiTable:
    """The N selected ROIs of all planes; see `CalciumRecording` for the fields.

    Attributes:
        columns: columns of the selected ROIs in the traces of each plane.
        label: (N,) str.
        cell_id: (N,) str.
        identified: (N,) bool.
        position: (N, P) float32.
        notes: lines on ROIs that are left out or have no position.
    """

    columns: list[np.ndarray]
    label: np.ndarray
    cell_id: np.ndarray
    identified: np.ndarray
    position: np.ndarray
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Plane:
    """A plane segmentation, the rows of its ROIs in it, and their columns in the traces."""

    table: h5py.Group
    rows: np.ndarray
    columns: np.ndarray

    @property
    def name(self) -> str:
        name: str = self.table.name
        return name.removeprefix("/")


def read_rois(
    series: list[h5py.Group],
    n_columns: list[int],
    names: CalciumNWBNames,
    selection: RowSelection | None,
    mouse: str,
    session: str,
    radius: float,
) -> RoiTable:
    """Reads the ROIs of the series of one file.

    Args:
        series: the RoiResponseSeries, one per plane.
        n_columns: number of columns of the traces of each.
        names: names of columns of the plane segmentations.
        selection: rows of the plane segmentations to use; None for all.
        mouse: the animal, a part of the ids.
        session: name of the session, a part of the ids of cells without an id.
        radius: maximum distance of neighbors.

    Raises:
        DataError: a series references no ROIs, or has another number of them; a column is missing; an id or an ROI
            appears twice; no ROI is selected.
    """
    planes = [_read_plane(group, n, selection) for group, n in zip(series, n_columns, strict=True)]
    filename = series[0].file.filename
    n_rois, n_selected = sum(n_columns), sum(len(plane.columns) for plane in planes)
    if not n_selected:
        raise DataError(f"{filename} has no ROI of data.spec.rois among those of its traces; correct it")
    notes = []
    if n_selected < n_rois:
        share = 100 * (n_rois - n_selected) / n_rois
        notes.append(
            f"{filename}: {n_rois - n_selected} of {n_rois} ROIs ({share:.0f} %) are left out by data.spec.rois"
        )
    rois = [(plane.table.name, int(row)) for plane in planes for row in plane.rows]
    if len(set(rois)) < len(rois):
        raise DataError(
            f"{filename} has an ROI twice in the traces of {' and '.join(group.name for group in series)}; set "
            "data.names.activity to one series for each plane"
        )
    cell_id, identified = _read_cell_ids(planes, names.cell_id, mouse, session)
    position = _read_positions(planes, names.position, radius)
    return RoiTable(
        columns=[plane.columns for plane in planes],
        label=np.concatenate(
            [
                _read_column(plane.table, names.cell_type, "data.names.cell_type")[plane.rows].astype(str)
                for plane in planes
            ]
        ),
        cell_id=cell_id,
        identified=identified,
        position=position,
        notes=(*notes, *_position_notes(planes, position, names.position, filename)),
    )


def _read_plane(series: h5py.Group, n_columns: int, selection: RowSelection | None) -> _Plane:
    """Returns the plane segmentation of a series, with the selected ROIs."""
    region, filename = series.get("rois"), series.file.filename
    if region is None or "table" not in region.attrs:
        raise DataError(f"{series.name} in {filename} references no ROIs; add its rois")
    rows = region[()].astype(np.int64)
    if len(rows) != n_columns:
        is_transposed = len(rows) == len(series["data"])
        raise DataError(
            f"{series.name} in {filename} has {n_columns} columns and {len(rows)} ROIs; repair the file"
            f"{', which is transposed: write frames by ROIs' if is_transposed else ''}"
        )
    table = series.file[region.attrs["table"]]
    n_rows = len(table["id"])
    if not ((rows >= 0) & (rows < n_rows)).all():
        raise DataError(
            f"{series.name} in {filename} references ROIs beyond the {n_rows} rows of {table.name}; repair the file"
        )
    columns = np.arange(len(rows))
    if selection is not None:
        columns = columns[read_selected_rows(table, selection, "data.spec.rois")[rows]]
    return _Plane(table, rows[columns], columns)


def _read_column(table: h5py.Group, name: str, setting: str) -> np.ndarray:
    if name not in table or not isinstance(table[name], h5py.Dataset):
        available = ", ".join(key for key, item in table.items() if isinstance(item, h5py.Dataset))
        raise DataError(
            f"the plane segmentation of {table.file.filename} has no column {name!r}; set {setting} to one of its "
            f"columns: {available}"
        )
    return read_selection_column(table, name)


def _read_cell_ids(planes: list[_Plane], column: str | None, mouse: str, session: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids of the ROIs, and whether each is valid in other files."""
    short_names = [plane.name.rsplit("/", 1)[-1] for plane in planes]
    plane_names = short_names if len(set(short_names)) == len(planes) else [plane.name for plane in planes]
    cell_id, identified = [], []
    for plane, plane_name in zip(planes, plane_names, strict=True):
        prefix = f"{mouse}/{session}" if len(planes) == 1 else f"{mouse}/{session}/{plane_name}"
        ids = None if column is None else _read_column(plane.table, column, "data.names.cell_id")
        for row in plane.rows:
            text = "" if ids is None else _id_text(ids[row])
            cell_id.append(f"{mouse}/{text}" if text else f"{prefix}/row{row}")
            identified.append(bool(text))
    if len(set(cell_id)) < len(cell_id):
        raise DataError(
            f"column {column} of {planes[0].table.file.filename} contains a cell id twice; make ids unique, or set "
            "data.names.cell_id to null"
        )
    return np.array(cell_id), np.array(identified, dtype=bool)


def _id_text(value: np.generic) -> str:
    """Returns the text of an id; "" for NaN."""
    if isinstance(value, np.floating):
        return str(int(value)) if np.isfinite(value) else ""
    return str(value)


def _read_positions(planes: list[_Plane], column: str | None, radius: float) -> np.ndarray:
    """Returns (N, 2 or 3) positions, NaN where missing."""
    if column is not None:
        columns = [_read_column(plane.table, column, "data.names.position") for plane in planes]
        for plane, values in zip(planes, columns, strict=True):
            if values.ndim != 2 or values.shape[1] not in (2, 3) or values.dtype.kind not in "iuf":
                raise DataError(
                    f"column {column} of {plane.name} of {plane.table.file.filename} has the shape {values.shape}; set "
                    "data.names.position to a column of 2 or 3 coordinates per ROI"
                )
        if len({values.shape[1] for values in columns}) > 1:
            raise DataError(
                f"column {column} of {planes[0].table.file.filename} has 2 coordinates in one plane and 3 in another; "
                "set data.names.position to null, or write as many in each"
            )
        return np.concatenate(
            [values[plane.rows].astype(np.float32) for plane, values in zip(planes, columns, strict=True)]
        )
    centers = [read_mask_centers(plane.table, plane.rows) for plane in planes]
    return stack_planes(centers, PLANE_DISTANCE_RADII * radius)


def _position_notes(planes: list[_Plane], position: np.ndarray, column: str | None, filename: str) -> list[str]:
    n_missing = int((~np.isfinite(position).all(axis=1)).sum())
    consequence = "have no neighbors and are not matched with cells of other days"
    if column is None and not any(has_masks(plane.table) for plane in planes):
        return [
            f"{filename} has no positions of ROIs (image_mask, pixel_mask or voxel_mask): cells {consequence}; "
            "data.names.position names a column of coordinates"
        ]
    notes = []
    if n_missing:
        share = 100 * n_missing / len(position)
        notes.append(
            f"{filename}: {n_missing} of {len(position)} cells ({share:.0f} %) have no position: they {consequence}"
        )
    if len(planes) > 1 and column is None:
        notes.append(
            f"{filename}: cells of different planes are not neighbors unless masks have 3 coordinates; "
            "data.names.position names a column of coordinates"
        )
    return notes
