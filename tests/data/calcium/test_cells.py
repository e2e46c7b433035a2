from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from helpers.calcium import recording_of
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.calcium.cells import (
    CELL_SPLITS,
    TEST,
    TRAIN,
    VAL,
    CellMetadata,
    require_disjoint_splits,
    split_cells,
)
from blend_pl.data.calcium.recording import CalciumRecording
from blend_pl.data.calcium.spec import CellSplit, CellTypes
from blend_pl.errors import ConfigError, DataError

TYPES = CellTypes()
LABELS = ["EC", "EC", "IN", "Vip-Crh", "Sst-Chodl", "Pvalb-Tac1", "Lamp5-Lhx6", "Sncg-Gpr50"]


def many(n: int, mouse: str = "SB025") -> CalciumRecording:
    return recording_of([f"{mouse}/{i}" for i in range(n)], [LABELS[i % len(LABELS)] for i in range(n)], mouse)


def sides(cells: CellMetadata) -> dict[str, set[str]]:
    return {side: set(cells.cell_id[cells.rows_in_split(side)].tolist()) for side in CELL_SPLITS}


@given(st.integers(0, 20), st.integers(60, 200), st.sampled_from([(0.8, 0.1), (0.6, 0.1), (0.5, 0.25)]))
def test_every_cell_is_on_one_side_in_the_wanted_shares(seed: int, n: int, shares: tuple[float, float]) -> None:
    cells = split_cells([many(n)], CellSplit(*shares, seed=seed), TYPES)
    count = Counter(cells.split.tolist())
    assert sum(count.values()) == n
    for side, share in zip(CELL_SPLITS, (*shares, 1 - sum(shares)), strict=True):
        assert abs(count[side] - share * n) <= len(LABELS)


def test_labels_are_divided_in_the_same_shares() -> None:
    cells = split_cells([many(400)], CellSplit(0.6, 0.2), TYPES)
    for label in set(LABELS):
        count = Counter(cells.split[cells.label == label].tolist())
        total = sum(count.values())
        assert [round(count[side] / total, 1) for side in CELL_SPLITS] == [0.6, 0.2, 0.2]


def test_a_seed_gives_the_same_sides_whatever_the_order_of_the_recordings() -> None:
    recordings = [many(60), many(80, "SB026")]
    split = CellSplit(0.6, 0.2, seed=3)
    first, second = split_cells(recordings, split, TYPES), split_cells(recordings[::-1], split, TYPES)
    assert np.array_equal(first.cell_id, second.cell_id)
    assert np.array_equal(first.split, second.split)
    assert not np.array_equal(first.split, split_cells(recordings, replace(split, seed=4), TYPES).split)


def test_a_cell_seen_on_two_days_is_one_cell() -> None:
    whole = many(80)
    names = ("cell_id", "label", "position", "identified")
    later = replace(whole, **{name: getattr(whole, name)[40:] for name in names})
    cells = split_cells([whole, later], CellSplit(0.6, 0.2), TYPES)
    assert len(cells) == 80
    assert np.array_equal(cells.cell_id[cells.rows_of_recording(later)], later.cell_id)
    require_disjoint_splits(cells, [whole, later])


def anonymous(names: list[str], places: list[float], mouse: str = "SB025") -> CalciumRecording:
    position = np.array(places)[:, None] * np.array([[1.0, 0.0, 0.0]])
    labels = [LABELS[i % 2] for i in range(len(names))]
    return recording_of(
        names, labels, mouse, position=position.astype("f4"), identified=np.zeros(len(names), dtype=bool)
    )


@given(st.integers(0, 50))
def test_what_may_be_one_cell_is_on_one_side(seed: int) -> None:
    """Cells without an id that lie in the same place on two days."""
    places = [100.0 * i for i in range(40)]
    days = [anonymous([f"SB025/day{d}/row{i}" for i in range(40)], [p + 1.5 * d for p in places]) for d in range(3)]
    cells = split_cells(days, CellSplit(0.5, 0.25, seed=seed), TYPES)
    side = [cells.split[cells.rows_of_recording(day)] for day in days]
    assert np.array_equal(side[0], side[1])
    assert np.array_equal(side[0], side[2])
    assert len(cells) == 120


def test_cells_far_apart_or_of_other_mice_are_divided_on_their_own() -> None:
    places = [100.0 * i for i in range(60)]
    first = anonymous([f"a{i}" for i in range(60)], places)
    for second in (
        anonymous([f"b{i}" for i in range(60)], [p + 20 for p in places]),
        anonymous([f"b{i}" for i in range(60)], places, "SB026"),
    ):
        cells = split_cells([first, second], CellSplit(0.5, 0.25), TYPES)
        assert not np.array_equal(
            cells.split[cells.rows_of_recording(first)], cells.split[cells.rows_of_recording(second)]
        )


def test_all_cells_of_a_test_mouse_are_held_out() -> None:
    recordings = [many(80, mouse) for mouse in ("SB025", "SB026", "SB028")]
    cells = split_cells(recordings, CellSplit(0.8, 0.1, test_mice=["SB028"]), TYPES)
    assert set(cells.split[cells.mouse == "SB028"]) == {TEST}
    count = Counter(cells.split[cells.mouse != "SB028"].tolist())
    assert set(count) == {TRAIN, VAL}
    assert count[TRAIN] == pytest.approx(160 * 8 / 9, abs=len(LABELS))


def test_a_cell_on_two_sides_would_be_found() -> None:
    recording = many(60)
    cells = split_cells([recording], CellSplit(0.6, 0.2), TYPES)
    # Two rows for one cell, as if the cells had been gathered wrongly.
    first, second = cells.rows_in_split(TRAIN)[0], cells.rows_in_split(TEST)[0]
    same = recording.cell_id.copy()
    same[recording.cell_id == cells.cell_id[second]] = cells.cell_id[first]

    class Confused(CellMetadata):
        def rows_of_recording(self, recording: CalciumRecording) -> np.ndarray:
            return cells.rows_of_recording(many(60))

    confused = Confused(cells.cell_id, cells.mouse, cells.label, cells.split)
    with pytest.raises(DataError, match=r"is on two sides, (train and test|test and train)"):
        require_disjoint_splits(confused, [replace(recording, cell_id=same)])


def test_cells_whose_labels_contradict_one_another_have_none() -> None:
    first = many(60)
    label = first.label.copy()
    label[3] = "Sst-Chodl"
    cells = split_cells([first, replace(first, label=label)], CellSplit(0.6, 0.2), TYPES)
    row = int(cells.rows_of_recording(first)[3])
    assert cells.label[row] == ""
    assert all(names[row] == "" for names in cells.class_labels(TYPES).values())


@pytest.mark.parametrize(("merged", "expected"), [(None, ""), ("Vip", "Vip")])
def test_the_rare_subclass_is_left_out_or_merged(merged: str | None, expected: str) -> None:
    labels = ["Serpinf1-Clrn1", "Vip-Crh"]
    cells = CellMetadata(*(np.array(values) for values in (["a", "b"], ["m"] * 2, labels, ["train"] * 2)))
    classes = cells.class_labels(replace(TYPES, merged={"Serpinf1": merged}))
    assert classes["subclass"].tolist() == [expected, "Vip"]
    assert classes["ei"].tolist() == ["IN", "IN"]


def test_classes_are_read_from_labels() -> None:
    labels = ["EC", "IN", "Lamp5-Lhx6", "Pvalb-Tac1-Akr1c18"]
    cells = CellMetadata(*(np.array(values) for values in (list("abcd"), ["m"] * 4, labels, ["train"] * 4)))
    classes = cells.class_labels(TYPES)
    assert classes["ei"].tolist() == ["EC", "IN", "IN", "IN"]
    assert classes["subclass"].tolist() == ["", "", "Lamp5", "Pvalb"]


@pytest.mark.parametrize(
    ("split", "n", "message"),
    [
        (CellSplit(0.8, 0.1, test_mice=["SB030"]), 60, "test_mice names SB030"),
        (CellSplit(0.9, 0.1), 60, "leave none for test"),
        (CellSplit(0.8, 0.1), 3, "leave none for"),
    ],
)
def test_a_side_without_cells_is_refused(split: CellSplit, n: int, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        split_cells([many(n)], split, TYPES)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.9, 0.2), (1.0, 0.0), (0.5, -0.1)])
def test_impossible_shares_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"add up to at most 1"):
        CellSplit(*shares)
