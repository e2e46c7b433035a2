"""Tests of the selection of held-out units."""

import numpy as np
import pytest

from blend_pl.data.io.nwb import Units
from blend_pl.data.nlb.held_out import check_held_out, format_ids, held_out_mask
from blend_pl.data.nlb.spec import HeldOutSpec
from blend_pl.errors import ConfigError, DataError


def units(**columns: list) -> Units:
    n = 8
    arrays = {name: np.array(values) for name, values in columns.items()}
    return Units(np.arange(100, 100 + n), arrays, np.zeros(0), np.zeros(n, dtype=int), None, None)


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (HeldOutSpec(units=[1]), "held_out.column and held_out.units given"),
        (HeldOutSpec(fraction=0.2), "held_out.column and held_out.fraction given"),
        (HeldOutSpec(column=None, units=[1], fraction=0.2), "held_out.units and held_out.fraction given"),
        (HeldOutSpec(column=None), "nothing given"),
        (HeldOutSpec(column=None, fraction=1.0), "between 0 and 1"),
    ],
)
def test_exactly_one_setting_is_required(held_out: HeldOutSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_held_out(held_out)


@pytest.mark.parametrize(
    "held_out", [HeldOutSpec(fraction=0), HeldOutSpec(by_fold=True), HeldOutSpec(None, fraction=0.25, by_fold=True)]
)
def test_fraction_zero_and_rotation_replace_other_settings(held_out: HeldOutSpec) -> None:
    check_held_out(held_out)
    assert not held_out_mask(units(), held_out, "a.nwb").any()


def test_units_by_column() -> None:
    selected = held_out_mask(units(heldout=[True, False] * 4), HeldOutSpec(), "a.nwb")
    assert selected.tolist() == [True, False] * 4


def test_units_by_id() -> None:
    selected = held_out_mask(units(), HeldOutSpec(column=None, units=[107, 100]), "a.nwb")
    assert np.flatnonzero(selected).tolist() == [0, 7]


def test_fraction_is_drawn_with_the_seed() -> None:
    draws = [held_out_mask(units(), HeldOutSpec(column=None, fraction=0.25, seed=seed), "a.nwb") for seed in range(9)]
    assert all(draw.sum() == 2 for draw in draws)
    assert len({draw.tobytes() for draw in draws}) > 1
    again = held_out_mask(units(), HeldOutSpec(column=None, fraction=0.25, seed=3), "a.nwb")
    np.testing.assert_array_equal(again, draws[3])


@pytest.mark.parametrize(
    ("held_out", "columns", "message"),
    [
        (
            HeldOutSpec(),
            {"quality": [1.0] * 8},
            "no column 'heldout'; set held_out.column: null .* available columns: quality",
        ),
        (HeldOutSpec(), {"heldout": ["yes"] * 8}, "must be boolean"),
        (HeldOutSpec(), {"heldout": [False] * 8}, "0 of the 8 units"),
        (HeldOutSpec(), {"heldout": [True] * 8}, "8 of the 8 units"),
        (HeldOutSpec(column=None, units=[3]), {}, "no unit 3 from held_out.units; available ids: 100, "),
    ],
)
def test_unusable_units_raise(held_out: HeldOutSpec, columns: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        held_out_mask(units(**columns), held_out, "a.nwb")


def test_long_lists_of_ids_are_shortened() -> None:
    assert format_ids(np.arange(3)) == "0, 1, 2"
    assert format_ids(np.arange(100)) == "0, 1, 2, 3, ..., 97, 98, 99"
    assert format_ids(np.arange(0)) == "none"
