from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.calcium import neuprint
from helpers.calcium_files import write_calcium
from helpers.systems import trainer

from blend_pl.data.calcium import CalciumNWBDataModule, CalciumSpec
from blend_pl.data.calcium.nwb import CalciumNWBNames, read_calcium_nwb
from blend_pl.data.calcium.spec import CellSplit
from blend_pl.errors import ConfigError, DataError

SPEC = CalciumSpec("own", recordings=["**/*.nwb"], behavior=["speed"], cells=CellSplit(0.5, 0.25))
NAMES = CalciumNWBNames(cell_id="cell_id", state="state")


def test_a_recording_is_what_the_file_holds(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("masks", ["image", "pixel"])
def test_cells_lie_at_the_centre_of_their_mask(tmp_path: Path, masks: str) -> None:
    written = write_calcium(tmp_path / "day1.nwb", masks=masks)
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)
    np.testing.assert_allclose(recording.position, written["position"][:, :2].round() + 1)


def test_positions_can_be_a_column(tmp_path: Path) -> None:
    written = write_calcium(tmp_path / "day1.nwb", masks="column")
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, replace(NAMES, position="place"))
    np.testing.assert_allclose(recording.position, written["position"], rtol=1e-6)


def test_cells_without_an_id_are_known_in_their_file_alone(tmp_path: Path) -> None:
    write_calcium(tmp_path / "day1.nwb", id=np.array([np.nan] * 5 + [*range(31)], dtype=float))
    recording = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)
    assert 0 < (~recording.identified).sum() <= 5
    assert all("day1/row" in cell for cell in recording.cell_id[~recording.identified])
    nameless = read_calcium_nwb(tmp_path / "day1.nwb", SPEC, replace(NAMES, cell_id=None))
    assert not nameless.identified.any()
    assert len(set(nameless.cell_id)) == len(nameless.cell_id)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"activity": "raw"}, r"one RoiResponseSeries raw, it has: none; set data\.names\.activity"),
        ({"cell_type": "subtype"}, r"no column 'subtype'; set data\.names\.cell_type to one it has: .*cell_type"),
        ({"cell_id": "uid"}, r"no column 'uid'; set data\.names\.cell_id"),
        ({"position": "xyz"}, r"no column 'xyz'; set data\.names\.position"),
        ({"state": "mood"}, r"no time series 'mood'"),
    ],
)
def test_missing_parts_are_named(tmp_path: Path, names: dict[str, str], message: str) -> None:
    write_calcium(tmp_path / "day1.nwb")
    with pytest.raises(DataError, match=message) as raised:
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, replace(NAMES, **names))
    assert "\n" not in str(raised.value)


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    write_calcium(tmp_path / "day1.nwb", id=np.full(36, 7.0))
    with pytest.raises(DataError, match="has a cell_id twice"):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": np.full(1050, 4.0)}, "state of .* has the state 4"),
        ({"times": np.r_[np.arange(319) * 0.1, 0.0]}, "dff in .* out of order"),
    ],
)
def test_broken_series_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_calcium(tmp_path / "day1.nwb", **changes)
    with pytest.raises(DataError, match=message):
        read_calcium_nwb(tmp_path / "day1.nwb", SPEC, NAMES)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "day1.nwb"
    write_calcium(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="damaged or incomplete"):
        read_calcium_nwb(path, SPEC, NAMES)


def module(root: Path, **changes: Any) -> CalciumNWBDataModule:
    settings: dict[str, Any] = {"spec": SPEC, "names": NAMES, "window": 40, "n_steps": 3, **changes}
    return CalciumNWBDataModule(root=str(root), **settings)


def test_a_lab_can_train_on_its_own_files(tmp_path: Path) -> None:
    for day in (1, 2):
        write_calcium(tmp_path / "data" / "M1" / f"day{day}.nwb", seed=day)
    write_calcium(tmp_path / "data" / "M2" / "day1.nwb", "M2", ids=False)
    one_mouse, all_files = {"spec": replace(SPEC, mice=["M1"])}, {"names": replace(NAMES, cell_id=None)}
    for changes, n_cells in ((one_mouse, 36), (all_files, 3 * 34)):
        own = module(tmp_path / "data", **changes)
        fitting = trainer(tmp_path, 1)
        fitting.fit(neuprint(), datamodule=own)
        assert fitting.callback_metrics["train/loss"].isfinite()
        assert n_cells - 3 <= len(own.cells) <= n_cells


def test_files_that_match_nothing_are_told(tmp_path: Path) -> None:
    write_calcium(tmp_path / "day1.nwb")
    for spec in (replace(SPEC, recordings=["*.h5"]), replace(SPEC, mice=["M9"])):
        with pytest.raises(DataError, match=r"correct data\.root, data\.spec\.recordings or data\.spec\.mice"):
            module(tmp_path, spec=spec).setup("fit")


@pytest.mark.parametrize(("state", "series"), [(True, None), (False, "state")])
def test_states_must_be_wanted_and_named(tmp_path: Path, state: bool, series: str | None) -> None:
    with pytest.raises(ConfigError, match=r"name a series of states .*, or set data\.spec\.state to false"):
        module(tmp_path, spec=replace(SPEC, state=state), names=replace(NAMES, state=series))


def test_without_rois_there_are_no_cells(tmp_path: Path) -> None:
    path = tmp_path / "day1.nwb"
    write_calcium(path)
    with h5py.File(path, "a") as file:
        del file["processing/ophys/DfOverF/dff/rois"]
    with pytest.raises(DataError, match="names no ROIs"):
        read_calcium_nwb(path, SPEC, NAMES)
