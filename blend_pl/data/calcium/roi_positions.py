"""Positions of ROIs: a column of coordinates, or the centers of their masks."""

import h5py
import numpy as np

from blend_pl.errors import DataError

MASK_AXES = {"pixel_mask": ("x", "y"), "voxel_mask": ("x", "y", "z")}
"""Fields of the coordinates in the ragged mask columns of a plane segmentation."""


def read_mask_centers(table: h5py.Group, rows: np.ndarray) -> np.ndarray:
    """Returns the (N, 2 or 3) float32 centers of the masks of ROIs, NaN for ROIs without a mask.

    Args:
        table: a plane segmentation with an image_mask, pixel_mask or voxel_mask column, or none of them.
        rows: (N,) rows of the ROIs.

    Raises:
        DataError: an index of masks runs backwards or points beyond them.
    """
    if "image_mask" in table:
        masks = table["image_mask"]
        centers = [_center(np.argwhere(masks[row] > 0), masks.ndim - 1) for row in rows]
        return np.array(centers, dtype=np.float32).reshape(len(rows), masks.ndim - 1)
    for column, axes in MASK_AXES.items():
        if column in table and f"{column}_index" in table:
            points, stops = table[column][()], table[f"{column}_index"][()].astype(np.int64)
            starts = np.concatenate([[0], stops[:-1]])
            if len(stops) <= rows.max(initial=-1) or (stops < starts).any() or stops[-1] > len(points):
                raise DataError(
                    f"{column}_index of {table.name.removeprefix('/')} of {table.file.filename} does not fit its "
                    f"{len(points)} values; repair the file, or set data.names.position to a column of coordinates"
                )
            coordinates = np.stack([points[axis] for axis in axes], axis=1).astype(np.float64)
            centers = [_center(coordinates[starts[row] : stops[row]], len(axes)) for row in rows]
            return np.array(centers, dtype=np.float32).reshape(len(rows), len(axes))
    return np.full((len(rows), 2), np.nan, dtype=np.float32)


def has_masks(table: h5py.Group) -> bool:
    """Whether a plane segmentation has masks of ROIs."""
    return "image_mask" in table or any(f"{column}_index" in table for column in MASK_AXES)


def _center(points: np.ndarray, n_axes: int) -> np.ndarray:
    return points.mean(0) if len(points) else np.full(n_axes, np.nan)


def stack_planes(positions: list[np.ndarray], distance: float) -> np.ndarray:
    """Returns the positions of the ROIs of several planes.

    Positions within planes (2 coordinates) get a third coordinate that places the planes at a distance from one
    another, because files do not say it in the same unit. Positions in a volume (3 coordinates) are kept.

    Args:
        positions: (N, 2 or 3) of each plane.
        distance: distance of two planes.
    """
    if len(positions) == 1 or all(position.shape[1] == 3 for position in positions):
        return np.concatenate(positions)
    depths = (
        position[:, 2:] if position.shape[1] == 3 else np.full((len(position), 1), plane * distance, dtype=np.float32)
        for plane, position in enumerate(positions)
    )
    stacked = [
        np.concatenate([position[:, :2], depth], axis=1) for position, depth in zip(positions, depths, strict=True)
    ]
    return np.concatenate(stacked)
