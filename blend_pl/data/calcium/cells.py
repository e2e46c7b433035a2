"""All cells of a data set, and the side of the split that each is on."""

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
        label: (C,) str; "" where recordings contradict one another.
        split: (C,) str, train, val or test.
    """

    cell_id: np.ndarray
    mouse: np.ndarray
    label: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.cell_id)

    def rows_in_split(self, split: str) -> np.ndarray:
        """Rows of the cells on a side."""
        return np.flatnonzero(self.split == split)

    def rows_of_recording(self, recording: CalciumRecording) -> np.ndarray:
        """(N,) rows of a recording's cells."""
        return np.searchsorted(self.cell_id, recording.cell_id)

    def class_labels(self, types: CellTypes) -> dict[str, np.ndarray]:
        """(C,) names of classes, "" for cells without one, for each task: "ei" and "subclass"."""
        labels_or_none = [label if label else None for label in self.label]
        return {
            "ei": np.array(["" if label is None else ei_class(label, types) for label in labels_or_none]),
            "subclass": np.array(["" if label is None else subclass(label, types) or "" for label in labels_or_none]),
        }


def split_cells(recordings: Sequence[CalciumRecording], split_spec: CellSplit, types: CellTypes) -> CellMetadata:
    """Finds the cells of all recordings and puts each on one side.

    Labels are divided in the same shares. All that may be one physical cell comes to one side: recordings that share
    an id, and cells without one that lie in the same place on different days.

    Args:
        recordings: at least one.
        split_spec: shares of the sides.
        types: the labels that there are.

    Raises:
        DataError: an unknown label, a test mouse without recordings, or a side that would be empty.
    """
    for recording in recordings:
        require_known_labels(recording.label.tolist(), types, recording.name)
    mouse_of_cell = {cell_id: r.mouse for r in recordings for cell_id in r.cell_id}
    cell_id = np.array(sorted(mouse_of_cell))
    mouse = np.array([mouse_of_cell[name] for name in cell_id])
    label = _consistent_labels(cell_id, recordings)
    for name in split_spec.test_mice:
        if name not in mouse:
            raise DataError(f"data.spec.cells.test_mice names {name}, of which there is no recording; correct it")
    group = _group_matching_cells(cell_id, recordings, split_spec.max_match_distance)
    split = _assign_splits(label, group, np.isin(mouse, split_spec.test_mice), split_spec)
    for name in CELL_SPLITS[:: 1 if split_spec.val else 2]:
        if name not in split:
            raise DataError(
                f"the {len(cell_id)} cells leave none for {name} (one in {len(set(group))} groups that may be one cell "
                "each); change data.spec.cells"
            )
    return CellMetadata(cell_id, mouse, label, split)


def require_disjoint_splits(cells: CellMetadata, recordings: Sequence[CalciumRecording]) -> None:
    """Checks, on the recordings themselves, that no cell is on two sides.

    Raises:
        DataError: a cell with one id is on two sides.
    """
    split_of_cell: dict[str, str] = {}
    for recording in recordings:
        for cell_id, split in zip(recording.cell_id, cells.split[cells.rows_of_recording(recording)], strict=True):
            if split_of_cell.setdefault(str(cell_id), str(split)) != split:
                raise DataError(
                    f"cell {cell_id} of {recording.name} is on two sides, {split_of_cell[str(cell_id)]} and {split}"
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
    """(C,) numbers, equal for cells that may be one: nearest to each other, both without an id, on two days."""
    pairs: list[np.ndarray] = []
    for index, first in enumerate(recordings):
        for second in recordings[:index]:
            if first.mouse == second.mouse and first.position.shape[1] == second.position.shape[1]:
                pairs.append(_match_cells(cell_id, first, second, max_distance))
    rows = np.concatenate([*pairs, np.empty((0, 2), dtype=np.int64)])
    graph = coo_array((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape=(len(cell_id), len(cell_id)))
    return connected_components(graph, directed=False)[1]


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
        # A group of many cells goes where its middle falls.
        midpoint = np.cumsum(group_size[label_groups]) - group_size[label_groups] / 2
        split_indices = np.searchsorted(shares.cumsum()[:2] * group_size[label_groups].sum(), midpoint, side="right")
        for group_number, split_index in zip(label_groups, split_indices, strict=True):
            split[group == group_number] = CELL_SPLITS[split_index]
    return split
