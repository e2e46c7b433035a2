"""Tests of the choice of rows and of the unit of time of units."""

import numpy as np
import pytest

from blend_pl.data.io.clock import ClockSpec
from blend_pl.data.io.nwb_units import Units
from blend_pl.data.io.selection import RowSelection
from blend_pl.data.io.unit_selection import UnitSelection
from blend_pl.data.io.unit_settings import UnitSettings, choose_unit_settings, good_rows, longest_span

N_UNITS, SECONDS, RATE_HZ = 6, 100.0, 8
SPANS = {"vel": (0.0, SECONDS), "trials": (10.0, 40.0)}


def make_units(factor: float = 1.0, ids: object = None, **columns: object) -> Units:
    rng = np.random.default_rng(0)
    n_spikes = int(RATE_HZ * SECONDS)
    times = [np.sort(rng.uniform(0, SECONDS, n_spikes)) * factor for _ in range(N_UNITS)]
    return Units(
        id=np.arange(N_UNITS) if ids is None else np.asarray(ids),
        columns={name: np.asarray(column) for name, column in columns.items()},
        times=np.concatenate(times if factor == 1 else np.round(times)),
        time_stops=np.arange(1, N_UNITS + 1) * n_spikes,
        intervals=None,
        interval_stops=None,
    )


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"quality": ["good", "mua", "good"]}, RowSelection("quality", ["good"])),
        ({"KSLabel": ["good", "mua", "good"], "quality": ["SU", "SU", "noise"]}, RowSelection("quality", ["SU"])),
        ({"is_good": [1, 0, 1]}, RowSelection("is_good", [1])),
        ({"accepted": [True, True, False]}, RowSelection("accepted", [True])),
        ({"quality": ["good", "good", "good"]}, None),
        ({"quality": ["good", "mua", "mua"]}, None),
        ({"depth": [1, 0, 1], "area": ["V1", "M1", "V1"]}, None),
    ],
)
def test_good_units_are_selected_by_a_column_of_quality(columns: dict, expected: RowSelection | None) -> None:
    assert good_rows({name: np.array(column) for name, column in columns.items()}) == expected


def test_plain_units_need_no_setting() -> None:
    assert choose_unit_settings(make_units(), None, SPANS, []) == UnitSettings()


def test_rows_and_repeated_ids_are_chosen_with_a_reason() -> None:
    units = make_units(ids=[1, 1, 2, 3, 4, 5], quality=["good"] * 4 + ["mua", "noise"])
    settings = choose_unit_settings(units, None, SPANS, [])
    assert settings.selection == UnitSelection(column="quality", values=["good"], renumber=True)
    assert settings.reasons["units"] == (
        "2 of 6 units are left out: quality is not good but mua (1), noise (1); 1 ids of units occur before, so that "
        "units are numbered by row"
    )


@pytest.mark.parametrize(
    ("factor", "resolution_s", "rates_hz", "clock"),
    [
        (1000.0, None, [], ClockSpec(spikes="ms")),
        (30_000.0, 1 / 30_000, [], ClockSpec(spikes="samples", rate_hz=30_000.0)),
        (30_000.0, None, [1250.0, 30_000.0], ClockSpec(spikes="samples", rate_hz=30_000.0)),
        (30_000.0, None, [], ClockSpec()),
    ],
)
def test_unit_of_time_is_chosen_from_spans_and_rates(
    factor: float, resolution_s: float | None, rates_hz: list[float], clock: ClockSpec
) -> None:
    settings = choose_unit_settings(make_units(factor), resolution_s, SPANS, rates_hz)
    assert settings.clock == clock
    assert ("clock" in settings.reasons) == (clock != ClockSpec())


def test_longest_span() -> None:
    assert longest_span(SPANS) == ("vel", (0.0, SECONDS))
    assert longest_span({}) is None
