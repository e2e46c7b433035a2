"""Tests of the data modules of calcium recordings."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.calcium import SPEC, TINY, tiny_calcium

from blend_pl.data.calcium import BugeonDataModule
from blend_pl.data.calcium.cells import CELL_SPLITS, TEST, TRAIN
from blend_pl.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calcium")


@pytest.fixture(scope="module")
def module(root: Path) -> BugeonDataModule:
    return tiny_calcium(root)


def test_no_cell_is_in_two_splits(module: BugeonDataModule) -> None:
    recordings = module.read()
    cells_by_split = {split: set() for split in CELL_SPLITS}
    for recording in recordings:
        for cell, split in zip(
            recording.cell_id, module.cells.split[module.cells.rows_of_recording(recording)], strict=True
        ):
            cells_by_split[split].add(cell)
    assert all(cells_by_split.values())
    assert len(set.union(*cells_by_split.values())) == sum(map(len, cells_by_split.values())) == len(module.cells)
    train_rows = {int(row) for batch in module.train_dataloader() for row in batch.embedding_index}
    val_rows = {int(row) for batch in module.val_dataloader() for row in batch.embedding_index}
    assert train_rows <= val_rows == set(range(module.signature.n_units))
    assert set(module.signature.unit_id) == cells_by_split[TRAIN]


def test_training_windows_exclude_validation_time(module: BugeonDataModule) -> None:
    module.n_steps = 200
    try:
        last = max(int(batch.index.max()) for batch in module.train_dataloader())
    finally:
        module.n_steps = 3
    first = min(int(batch.index.min()) for batch in module.val_dataloader())
    assert 470 < last + module.window <= module.sessions[0].n_train_frames == first == 480


def test_all_cell_batches_include_held_out_cells(module: BugeonDataModule) -> None:
    device = torch.device("cpu")
    for subset in ("train", "val"):
        groups = module.all_cell_batches(subset, device)  # type: ignore[arg-type]
        rows = {int(row) for group in groups for batch in group for row in batch.embedding_index}
        assert rows == set(range(len(module.cells)))
        for group in groups:
            assert all(torch.equal(batch.embedding_index, group[0].embedding_index) for batch in group)
    assert len(module.cells.rows_in_split(TEST)) > 0


def test_signature_describes_the_recordings(module: BugeonDataModule) -> None:
    signature = module.signature
    assert (signature.name, signature.bin_ms, signature.n_observed, signature.n_forward) == ("tiny", 233, 40, 0)
    assert signature.n_privileged == 5
    assert signature.n_heldin == signature.n_units == len(module.cells.rows_in_split(TRAIN))
    assert module.selection == "reconstruction in validation time (16 windows)"


def test_calibration_batches_have_the_same_cells(module: BugeonDataModule) -> None:
    batches = list(module.calibration_dataloader())
    assert len(batches) > 1
    assert all(torch.equal(batch.embedding_index, batches[0].embedding_index) for batch in batches)
    assert all(batch.observed.shape[1:] == batches[0].observed.shape[1:] for batch in batches)
    assert max(int(batch.index.max()) for batch in batches) + module.window <= module.sessions[0].n_train_frames


def test_recording_shorter_than_two_windows_raises(root: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"480 frames of training time and 160 of validation time, fewer than a window of 200; lower data",
    ):
        tiny_calcium(root, window=200)


def test_simulated_tree_is_written_once(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.npy")}
    assert before
    tiny_calcium(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.npy")} == before
    tiny_calcium(root, simulation=replace(TINY, seed=1, n_mice=1, n_sessions=1))
    assert len(list((root / "simulated").iterdir())) == 2


def test_tree_on_disk_is_read_without_download(root: Path) -> None:
    (tree,) = (path for path in (root / "simulated").iterdir() if (path / "SB026").exists())
    module = BugeonDataModule(SPEC, str(tree), window=40)
    module.setup("fit")
    assert len(module.sessions) == 4
