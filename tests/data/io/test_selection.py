"""Tests of the selection of rows by a column."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.io.selection import RowSelection, read_selected_rows
from blend_pl.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        (np.array(["good", "mua", "good"]), ["good"], [True, False, True]),
        (np.array(["good", "mua", "noise"]), ["good", "mua"], [True, True, False]),
        (np.array([1, 0, 1], dtype=np.int8), [1], [True, False, True]),
        (np.array([1, 0, 1], dtype=np.uint8), [True], [True, False, True]),
        (np.array([True, False]), [False], [False, True]),
        (np.array([1.0, np.nan, 2.0]), ["1"], [True, False, False]),
        (np.array(["True", "false"]), [False], [False, True]),
        (np.array(["1", "2"]), [1], [True, False]),
        (np.array([[1.0, 0.9], [0.0, 1.0]]), [1], [True, False]),
    ],
)
def test_mask_marks_rows_with_one_of_the_values(column: np.ndarray, values: list[Any], expected: list[bool]) -> None:
    assert RowSelection("column", values).mask(column, "units of a.nwb", "data.spec.units").tolist() == expected


@given(st.lists(st.integers(-3, 3), min_size=1), st.sets(st.integers(-3, 3), min_size=1))
def test_mask_equals_membership(column: list[int], values: set[int]) -> None:
    selection = RowSelection("column", list(values))
    expected = np.isin(column, list(values))
    for dtype in ("i2", "f4", "f8", "U3"):
        if expected.any():
            assert np.array_equal(selection.mask(np.array(column).astype(dtype), "a", "b"), expected)
        else:
            with pytest.raises(DataError, match=r"no row with column"):
                selection.mask(np.array(column).astype(dtype), "a", "b")


def test_values_that_no_row_has_raise_with_those_of_the_column() -> None:
    with pytest.raises(DataError, match=r"no row with quality best; set data\.spec\.units\.values .*: good \(2 rows\)"):
        RowSelection("quality", ["best"]).mask(np.array(["good", "mua", "good"]), "units", "data.spec.units")


def test_selection_without_values_raises() -> None:
    with pytest.raises(ConfigError, match="has no values"):
        RowSelection("quality")


def test_rows_are_read_from_a_table_with_text_numbers_and_an_enumeration(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "table.h5", "w") as file:
        table = file.create_group("units")
        table["id"], table["spike_times_index"], table["spike_times"] = np.arange(3), np.arange(3), np.arange(3.0)
        table.create_dataset("quality", data=["good", "mua", "good"], dtype=h5py.string_dtype())
        table["iscell"] = np.array([[1, 0.9], [1, 0.8], [0, 0.1]])
        table["kind"] = np.array([1, 0, 1], dtype=np.uint8)
        table.create_dataset("kind_elements", data=["noise", "single"], dtype=h5py.string_dtype())
        table["kind"].attrs["elements"] = table["kind_elements"].ref
        for column, value, expected in (
            ("quality", "good", [True, False, True]),
            ("iscell", 1, [True, True, False]),
            ("kind", "single", [True, False, True]),
        ):
            assert read_selected_rows(table, RowSelection(column, [value]), "data.spec.units").tolist() == expected
        with pytest.raises(DataError, match=r"no column 'snr'; set data\.spec\.units\.column to one it has: iscell, k"):
            read_selected_rows(table, RowSelection("snr", [1]), "data.spec.units")
        with pytest.raises(DataError, match=r"no column 'spike_times'"):
            read_selected_rows(table, RowSelection("spike_times", [1]), "data.spec.units")
