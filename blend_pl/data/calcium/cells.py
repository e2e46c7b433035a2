"""All cells of a data set, and the side of the split that each is on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from blend_pl.data.calcium.recording import CalciumRecording
from blend_pl.data.calcium.spec import CellSplit, CellTypes
from blend_pl.data.calcium.types import ei_class, require_known, subclass
from blend_pl.errors import DataError

TRAIN, VAL, TEST = SIDES = ("train", "val", "test")


@dataclass(frozen=True)
class Cells:
    """The C cells of all recordings.

    Attributes:
        cell: (C,) str ids, sorted.
        mouse: (C,) str.
        label: (C,) str; "" where recordings contradict one another.
        side: (C,) str, train, val or test.
    """

    cell: np.ndarray
    mouse: np.ndarray
    label: np.ndarray
    side: np.ndarray

    def __len__(self) -> int:
        return len(self.cell)

    def on(self, side: str) -> np.ndarray:
        """Rows of the cells on a side."""
        return np.flatnonzero(self.side == side)

    def rows(self, recording: CalciumRecording) -> np.ndarray:
        """(N,) rows of a recording's cells."""
        return np.searchsorted(self.cell, recording.cell)

    def classes(self, types: CellTypes) -> dict[str, np.ndarray]:
        """(C,) names of classes, "" for cells without one, for each task: "ei" and "subclass"."""
        typed = [label if label else None for label in self.label]
        return {
            "ei": np.array(["" if label is None else ei_class(label, types) for label in typed]),
            "subclass": np.array(["" if label is None else subclass(label, types) or "" for label in typed]),
        }


def gather_cells(recordings: Sequence[CalciumRecording], split: CellSplit, types: CellTypes) -> Cells:
    """Finds the cells of all recordings and puts each on one side.

    Labels are divided in the same shares. All that may be one physical cell comes to one side: recordings that share
    an id, and cells without one that lie in the same place on different days.

    Args:
        recordings: at least one.
        split: shares of the sides.
        types: the labels that there are.

    Raises:
        DataError: an unknown label, a test mouse without recordings, or a side that would be empty.
    """
    for recording in recordings:
        require_known(recording.label.tolist(), types, recording.name)
    owner = {cell: r.mouse for r in recordings for cell in r.cell}
    cell = np.array(sorted(owner))
    mouse = np.array([owner[name] for name in cell])
    label = _labels(cell, recordings)
    for name in split.test_mice:
        if name not in mouse:
            raise DataError(f"data.spec.cells.test_mice names {name}, of which there is no recording; correct it")
    group = _groups(cell, recordings, split.same_place)
    side = _sides(label, group, np.isin(mouse, split.test_mice), split)
    for name in SIDES[:: 1 if split.val else 2]:
        if name not in side:
            raise DataError(
                f"the {len(cell)} cells leave none for {name} (one in {len(set(group))} groups that may be one cell "
                "each); change data.spec.cells"
            )
    return Cells(cell, mouse, label, side)


def require_disjoint(cells: Cells, recordings: Sequence[CalciumRecording]) -> None:
    """Checks, on the recordings themselves, that no cell is on two sides.

    Raises:
        DataError: a cell with one id is on two sides.
    """
    seen: dict[str, str] = {}
    for recording in recordings:
        for name, side in zip(recording.cell, cells.side[cells.rows(recording)], strict=True):
            if seen.setdefault(str(name), str(side)) != side:
                raise DataError(f"cell {name} of {recording.name} is on two sides, {seen[str(name)]} and {side}")


def _labels(cell: np.ndarray, recordings: Sequence[CalciumRecording]) -> np.ndarray:
    found: dict[str, str] = {}
    for recording in recordings:
        for name, label in zip(recording.cell.tolist(), recording.label.tolist(), strict=True):
            found[name] = label if found.get(name, label) == label else ""
    return np.array([found[name] for name in cell.tolist()])


def _groups(cell: np.ndarray, recordings: Sequence[CalciumRecording], same_place: float) -> np.ndarray:
    """(C,) numbers, equal for cells that may be one: nearest to each other, both without an id, on two days."""
    pairs: list[np.ndarray] = []
    for index, first in enumerate(recordings):
        for second in recordings[:index]:
            if first.mouse == second.mouse and first.position.shape[1] == second.position.shape[1]:
                pairs.append(_same_place(cell, first, second, same_place))
    rows = np.concatenate([*pairs, np.empty((0, 2), dtype=np.int64)])
    graph = coo_array((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape=(len(cell), len(cell)))
    return connected_components(graph, directed=False)[1]


def _same_place(cell: np.ndarray, first: CalciumRecording, second: CalciumRecording, longest: float) -> np.ndarray:
    anonymous = [np.flatnonzero(~r.identified & np.isfinite(r.position).all(1)) for r in (first, second)]
    if not all(map(len, anonymous)):
        return np.empty((0, 2), dtype=np.int64)
    places = [r.position[rows] for r, rows in zip((first, second), anonymous, strict=True)]
    distance, nearest = cKDTree(places[1]).query(places[0])
    back = cKDTree(places[0]).query(places[1])[1]
    mutual = np.flatnonzero((back[nearest] == np.arange(len(nearest))) & (distance <= longest))
    names = first.cell[anonymous[0][mutual]], second.cell[anonymous[1][nearest[mutual]]]
    return np.searchsorted(cell, np.stack(names, axis=1))


def _sides(label: np.ndarray, group: np.ndarray, tested: np.ndarray, split: CellSplit) -> np.ndarray:
    rng = np.random.default_rng(split.seed)
    shares = np.array([split.train, split.val, 1 - split.train - split.val])
    if split.test_mice:
        shares = np.array([split.train, split.val, 0]) / (split.train + split.val)
    side = np.full(len(label), TEST, dtype="<U5")
    _, first, count = np.unique(group, return_index=True, return_counts=True)
    divided = ~tested[first]
    for name in np.unique(label[first]):
        members = rng.permutation(np.flatnonzero((label[first] == name) & divided))
        # A group of many cells goes where its middle falls.
        middle = np.cumsum(count[members]) - count[members] / 2
        drawn = np.searchsorted(shares.cumsum()[:2] * count[members].sum(), middle, side="right")
        for number, chosen in zip(members, drawn, strict=True):
            side[group == number] = SIDES[chosen]
    return side
