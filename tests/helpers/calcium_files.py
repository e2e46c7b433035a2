"""Writer of calcium recordings in NWB files, with pynwb."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.file import Subject
from pynwb.ophys import DfOverF, ImageSegmentation, OpticalChannel, PlaneSegmentation, RoiResponseSeries

LABELS = ["EC", "EC", "IN", "Pvalb-Tac1", "Sst-Chodl", "Vip-Crh"]


def write_calcium(
    path: Path,
    mouse: str = "M1",
    frames: int = 320,
    rois: int = 36,
    ids: bool = True,
    masks: str = "image",
    seed: int = 0,
    **changes: Any,
) -> dict[str, np.ndarray]:
    """Writes one session: a RoiResponseSeries of some of the ROIs in random order, and behavior.

    Args:
        path: the file.
        mouse: subject id.
        frames: T, number of frames.
        rois: N + 2; the first two ROIs of the table have no activity.
        ids: adds a column of ids, one of them missing.
        masks: "image", "pixel" or "column".
        seed: seed of the drawn arrays.
        changes: arrays that replace the drawn ones, by name.

    Returns:
        The written arrays: activity (T, N), times, speed, state and their times, label, id and position of the N cells.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.arange(2, rois))
    written: dict[str, np.ndarray] = {
        "activity": rng.normal(1, 2, (frames, len(rows))),
        "times": np.arange(frames) * 0.1 + 5.0,
        "speed_times": np.arange(1050) * 0.0437,
        "label": np.array([LABELS[i % len(LABELS)] for i in range(rois)]),
        "id": np.array([np.nan, *range(100, 99 + rois)]),
        "position": rng.uniform(0, 20, (rois, 3)).round(1),
    }
    written["speed"] = np.sin(written["speed_times"])
    written["state"] = rng.integers(0, 3, len(written["speed_times"])).astype(float)
    written |= changes
    file = NWBFile("a session", path.stem, datetime(2026, 1, 1, tzinfo=UTC))
    file.subject = Subject(subject_id=mouse)
    table = _segmentation(file, rois, ids, masks, written)
    region = table.create_roi_table_region("cells", region=[int(row) for row in rows])
    series = RoiResponseSeries(
        name="dff", data=written["activity"], rois=region, unit="a.u.", timestamps=written["times"]
    )
    ophys = file.create_processing_module("ophys", "imaging")
    ophys.add(DfOverF(roi_response_series=series))
    for name in ("speed", "state"):
        file.add_acquisition(TimeSeries(name=name, data=written[name], unit="cm/s", timestamps=written["speed_times"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return {**written, **{name: written[name][rows] for name in ("label", "id", "position")}}


def _segmentation(file: NWBFile, rois: int, ids: bool, masks: str, written: dict[str, np.ndarray]) -> PlaneSegmentation:
    device = file.create_device("microscope")
    plane = file.create_imaging_plane(
        name="plane",
        optical_channel=OpticalChannel(name="green", description="GCaMP", emission_lambda=520.0),
        description="a plane",
        device=device,
        excitation_lambda=920.0,
        indicator="GCaMP6s",
        location="V1",
    )
    segmentation = ImageSegmentation()
    file.create_processing_module("segmentation", "cells").add(segmentation)
    table = segmentation.create_plane_segmentation("cells", plane, "PlaneSegmentation")
    centers = written["position"][:, :2].round().astype(int)
    for center in centers:
        if masks == "image":
            image = np.zeros((24, 24))
            image[center[0] : center[0] + 3, center[1] : center[1] + 3] = 1
            table.add_roi(image_mask=image)
        else:
            pixels = [(int(center[0]) + i, int(center[1]) + j, 1.0) for i in range(3) for j in range(3)]
            table.add_roi(pixel_mask=pixels)
    table.add_column("cell_type", "transcriptomic type", data=written["label"].tolist())
    if ids:
        table.add_column("cell_id", "id over days", data=written["id"])
    if masks == "column":
        table.add_column("place", "position of the cell", data=written["position"])
    return table
