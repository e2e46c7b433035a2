"""Cells of a data set and their division into train, val and test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from blend_pl.data.calcium.recording import CalciumRecording
from blend_pl.data.calcium.spec import CellSplit, CellTypes
from blend_pl.data.calcium.types import ei_class, require_known_labels, subclass
from blend_pl.errors import DataError

TRAIN, VAL, TEST = CELL_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class CellMetadata:
    """The C cells of all recordings.

    Attributes:
        cell_id: (C,) str ids, sorted.
        mouse: (C,) str.
        label: (C,) str; "" where recordings disagree.
        split: (C,) str, "train", "val" or "test".
    """

    cell_id: np.ndarray
    mouse: np.ndarray
    label: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.cell_id)

    def rows_in_split(self, split: str) -> np.ndarray:
        """Returns the rows of the cells of a split."""
        return np.flatnonzero(self.split == split)

    def rows_of_recording(self, recording: CalciumRecording) -> np.ndarray:
        """Returns the (N,) rows of a recording's cells."""
        return np.searchsorted(self.cell_id, recording.cell_id)

    def class_labels(self, types: CellTypes) -> dict[str, np.ndarray]:
        """Returns the (C,) class names of the tasks "ei" and "subclass", "" for cells without a class."""
        labels_or_none = [label if label else None for label in self.label]
        return {
            "ei": np.array(["" if label is None else ei_class(label, types) or "" for label in labels_or_none]),
            "subclass": np.array(["" if label is None else subclass(label, types) or "" for label in labels_or_none]),
        }


def split_cells(recordings: Sequence[CalciumRecording], split_spec: CellSplit, types: CellTypes) -> CellMetadata:
    """Collects the cells of all recordings and assigns each to train, val or test.

    Each label is divided in the same proportions. Entries that may be one physical cell share a split: entries with
    the same id, and entries without an id at the same position on different days.

    Args:
        recordings: at least one recording.
        split_spec: fractions of the splits.
        types: the known labels.

    Raises:
        DataError: a label is unknown, a test mouse has no recordings, or a split would be empty.
    """
    for recording in recordings:
        require_known_labels(recording.label.tolist(), types, recording.name)
    mouse_of_cell = {cell_id: r.mouse for r in recordings for cell_id in r.cell_id}
    cell_id = np.array(sorted(mouse_of_cell))
    mouse = np.array([mouse_of_cell[name] for name in cell_id])
    label = _consistent_labels(cell_id, recordings)
    for name in split_spec.test_mice:
        if name not in mouse:
            raise DataError(f"data.spec.cells.test_mice names {name}, which has no recording; correct it")
    group = _group_matching_cells(cell_id, recordings, split_spec.max_match_distance)
    split = _assign_splits(label, group, np.isin(mouse, split_spec.test_mice), split_spec)
    for name in CELL_SPLITS[:: 1 if split_spec.val else 2]:
        if name not in split:
            raise DataError(
                f"the {name} split of the {len(cell_id)} cells would be empty (they form {len(set(group))} groups that "
                "may be one cell each); change data.spec.cells"
            )
    return CellMetadata(cell_id, mouse, label, split)


def require_disjoint_splits(cells: CellMetadata, recordings: Sequence[CalciumRecording]) -> None:
    """Checks on the recordings themselves that no cell is in two splits.

    Raises:
        DataError: a cell id is in two splits.
    """
    split_of_cell: dict[str, str] = {}
    for recording in recordings:
        for cell_id, split in zip(recording.cell_id, cells.split[cells.rows_of_recording(recording)], strict=True):
            if split_of_cell.setdefault(str(cell_id), str(split)) != split:
                raise DataError(
                    f"cell {cell_id} of {recording.name} is in two splits, {split_of_cell[str(cell_id)]} and {split}"
                )


def _consistent_labels(cell_id: np.ndarray, recordings: Sequence[CalciumRecording]) -> np.ndarray:
    label_of_cell: dict[str, str] = {}
    for recording in recordings:
        for name, label in zip(recording.cell_id.tolist(), recording.label.tolist(), strict=True):
            label_of_cell[name] = label if label_of_cell.get(name, label) == label else ""
    return np.array([label_of_cell[name] for name in cell_id.tolist()])


def _group_matching_cells(
    cell_id: np.ndarray, recordings: Sequence[CalciumRecording], max_distance: float
) -> np.ndarray:
    """Returns (C,) group numbers, equal for entries that may be one cell.

    These are entries without an id in two recordings of a mouse that are each other's nearest neighbor.
    """
    pairs: list[np.ndarray] = []
    for index, first in enumerate(recordings):
        for second in recordings[:index]:
            if first.mouse == second.mouse and first.position.shape[1] == second.position.shape[1]:
                pairs.append(_match_cells(cell_id, first, second, max_distance))
    rows = np.concatenate([*pairs, np.empty((0, 2), dtype=np.int64)])
    graph = coo_array((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape=(len(cell_id), len(cell_id)))
    groups: np.ndarray = connected_components(graph, directed=False)[1]
    return groups


def _match_cells(
    cell_id: np.ndarray, first: CalciumRecording, second: CalciumRecording, max_distance: float
) -> np.ndarray:
    unidentified_rows = [np.flatnonzero(~r.identified & np.isfinite(r.position).all(1)) for r in (first, second)]
    if not all(map(len, unidentified_rows)):
        return np.empty((0, 2), dtype=np.int64)
    positions = [r.position[rows] for r, rows in zip((first, second), unidentified_rows, strict=True)]
    distance, nearest = cKDTree(positions[1]).query(positions[0])
    reverse_nearest = cKDTree(positions[0]).query(positions[1])[1]
    mutual_rows = np.flatnonzero((reverse_nearest[nearest] == np.arange(len(nearest))) & (distance <= max_distance))
    matched_ids = (
        first.cell_id[unidentified_rows[0][mutual_rows]],
        second.cell_id[unidentified_rows[1][nearest[mutual_rows]]],
    )
    return np.searchsorted(cell_id, np.stack(matched_ids, axis=1))


def _assign_splits(label: np.ndarray, group: np.ndarray, is_test: np.ndarray, split_spec: CellSplit) -> np.ndarray:
    rng = np.random.default_rng(split_spec.seed)
    shares = np.array([split_spec.train, split_spec.val, 1 - split_spec.train - split_spec.val])
    if split_spec.test_mice:
        shares = np.array([split_spec.train, split_spec.val, 0]) / (split_spec.train + split_spec.val)
    split = np.full(len(label), TEST, dtype="<U5")
    _, first_row, group_size = np.unique(group, return_index=True, return_counts=True)
    is_assignable = ~is_test[first_row]
    for label_name in np.unique(label[first_row]):
        label_groups = rng.permutation(np.flatnonzero((label[first_row] == label_name) & is_assignable))
        # A group of several cells goes to the split that contains its midpoint.
        midpoint = np.cumsum(group_size[label_groups]) - group_size[label_groups] / 2
        split_indices = np.searchsorted(shares.cumsum()[:2] * group_size[label_groups].sum(), midpoint, side="right")
        for group_number, split_index in zip(label_groups, split_indices, strict=True):
            split[group == group_number] = CELL_SPLITS[split_index]
    return split
