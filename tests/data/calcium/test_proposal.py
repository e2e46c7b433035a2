"""Tests of the data file that is proposed for calcium traces."""

from pathlib import Path

import numpy as np
import pytest
from helpers.calcium_files import write_calcium
from helpers.small_nwb import edit_file

from blend_pl.data.calcium.proposal import has_traces, propose_calcium_data_file
from blend_pl.data.io.contents import read_contents
from blend_pl.errors import DataError

SEGMENTATION = "processing/segmentation/ImageSegmentation/PlaneSegmentation"


def test_data_file_names_cell_types_behavior_and_sizes(tmp_path: Path) -> None:
    labels = np.array(["pyr", "PV", "unknown", "Sst-Chodl"] * 9)
    write_calcium(tmp_path / "day1.nwb", label=labels, frames=400)
    data_file = propose_calcium_data_file(read_contents(tmp_path / "day1.nwb"))
    assert data_file.spec["types"] == {
        "excitatory": ["pyr"],
        "inhibitory": [],
        "untyped": ["unknown"],
        "subclasses": ["PV", "Sst"],
        "merged": {},
    }
    assert data_file.spec["behavior"] == ["speed"]
    assert data_file.spec["rois"] is None
    assert data_file.arm == "hard"
    assert data_file.arguments["window"] == 100
    assert data_file.sizes.endswith(" cells, 400 frames")
    assert data_file.reasons["names"] == "processing/ophys/DfOverF/dff, cell types from cell_type"


def test_marked_rois_are_chosen(tmp_path: Path) -> None:
    write_calcium(tmp_path / "day1.nwb", rois=48)
    flags = np.arange(48) % 4 > 0
    edit_file(tmp_path / "day1.nwb", lambda file: file[SEGMENTATION].create_dataset("iscell", data=flags.astype(int)))
    edit_file(
        tmp_path / "day1.nwb",
        lambda file: file[SEGMENTATION].attrs.update(colnames=[*file[SEGMENTATION].attrs["colnames"], "iscell"]),
    )
    data_file = propose_calcium_data_file(read_contents(tmp_path / "day1.nwb"))
    assert data_file.spec["rois"] == {"column": "iscell", "values": [1]}
    assert data_file.reasons["rois"] == "12 of 48 ROIs are left out, those that iscell does not mark"


def test_files_without_cell_types_or_traces_raise(tmp_path: Path) -> None:
    write_calcium(tmp_path / "day1.nwb")
    edit_file(tmp_path / "day1.nwb", lambda file: file.move(f"{SEGMENTATION}/cell_type", f"{SEGMENTATION}/depth"))
    contents = read_contents(tmp_path / "day1.nwb")
    assert has_traces(contents)
    with pytest.raises(DataError, match="has no column of cell types; add one"):
        propose_calcium_data_file(contents)
    edit_file(tmp_path / "day1.nwb", lambda file: file["processing"].pop("ophys"))
    contents = read_contents(tmp_path / "day1.nwb")
    assert not has_traces(contents)
    with pytest.raises(DataError, match="has no RoiResponseSeries"):
        propose_calcium_data_file(contents)
