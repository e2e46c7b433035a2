"""Writer of NWB files with calcium traces of one or more imaging planes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.file import Subject
from pynwb.ophys import Fluorescence, ImageSegmentation, OpticalChannel, RoiResponseSeries

FRAME_S = 0.1
TYPES = ("EC", "IN", "Pvalb", "Sst", "Vip")


@dataclass
class Plane:
    """Traces and ROIs of a plane.

    Attributes:
        traces: (T, N).
        centers: (rows, 2 or 3) integer centers of the masks of the rows of the plane segmentation.
        rows: (N,) rows of the traces; 0, 1 ... by default.
        masks: "pixel", "voxel", "image", "volume" or "none".
        columns: further columns of the plane segmentation.
        series: further arguments of the RoiResponseSeries.
    """

    traces: np.ndarray
    centers: np.ndarray
    rows: list[int] | None = None
    masks: str = "pixel"
    columns: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, Any] = field(default_factory=dict)


def make_plane(n_cells: int = 20, n_frames: int = 300, seed: int = 0, **changes: Any) -> Plane:
    """Returns a plane of random traces and centers, with the types of `TYPES` in turn."""
    rng = np.random.default_rng(seed)
    columns = {"cell_type": [TYPES[k % len(TYPES)] for k in range(n_cells)], **changes.pop("columns", {})}
    values: dict[str, Any] = {
        "traces": rng.normal(size=(n_frames, n_cells)) + np.arange(n_cells),
        "centers": rng.integers(2, 60, (n_cells, 3)),
        "columns": columns,
    }
    return Plane(**{**values, **changes})


def write_planes(
    path: Path, planes: Mapping[str, Plane], subject: str | None = "M1", behavior: TimeSeries | None = None
) -> None:
    """Writes a file with a Fluorescence per plane, `plane/RoiResponseSeries`, and a running speed `speed`."""
    file = NWBFile("a session", str(path), datetime(2026, 1, 1, tzinfo=UTC))
    if subject is not None:
        file.subject = Subject(subject_id=subject)
    device = file.create_device("microscope")
    ophys = file.create_processing_module("ophys", "imaging")
    segmentation = ImageSegmentation()
    ophys.add(segmentation)
    for name, plane in planes.items():
        channel = OpticalChannel(name="green", description="GCaMP", emission_lambda=520.0)
        imaging_plane = file.create_imaging_plane(
            name=f"imaging_{name}",
            optical_channel=channel,
            description="a plane",
            device=device,
            excitation_lambda=920.0,
            indicator="GCaMP6s",
            location="V1",
        )
        table = segmentation.create_plane_segmentation("cells", imaging_plane, f"rois_{name}")
        for center in plane.centers:
            table.add_roi(**_mask(plane.masks, center))
        for column, values in plane.columns.items():
            table.add_column(column, column, data=list(values))
        rows = list(range(plane.traces.shape[1])) if plane.rows is None else plane.rows
        arguments = {"data": plane.traces, "unit": "n.a.", "rate": 1 / FRAME_S, **plane.series}
        region = table.create_roi_table_region("cells", region=rows)
        series = RoiResponseSeries(name="RoiResponseSeries", rois=region, **arguments)
        ophys.add(Fluorescence(name=name, roi_response_series=series))
    times = np.arange(0, 60, 0.05)
    speed = TimeSeries(name="speed", data=np.sin(times), unit="cm/s", timestamps=times)
    file.create_processing_module("behavior", "behavior").add(behavior or speed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)


def _mask(kind: str, center: np.ndarray) -> dict[str, Any]:
    x, y, z = (int(value) for value in (*center, 0)[:3])
    around = range(-1, 2)
    if kind == "pixel":
        return {"pixel_mask": [(x + i, y + j, 1.0) for i in around for j in around]}
    if kind == "voxel":
        return {"voxel_mask": [(x + i, y + j, z + k, 1.0) for i in around for j in around for k in around]}
    if kind == "none":
        return {"image_mask": np.zeros((4, 4))}
    image = np.zeros((64, 64) if kind == "image" else (64, 64, 64))
    image[tuple(slice(value - 1, value + 2) for value in center[: image.ndim])] = 1
    return {"image_mask": image}
