"""Tests of the order of series that can be behavior, their names, and the axes of one signal."""

from pathlib import Path

import numpy as np
import pytest

from blend_pl.data.io.behavior_candidates import axis_components, behavior_candidates, unique_name
from blend_pl.data.io.contents import NO_UNITS, FileContents, SeriesContents
from blend_pl.data.io.unit_settings import UnitSettings

MODULE = "processing/behavior"


def series(path: str, n_columns: int = 1, neurodata_type: str = "TimeSeries", **fields: object) -> SeriesContents:
    values = {"unit": "m/s", "first_s": 0.0, "last_s": 9.99, "rate_hz": 100.0, "longest_gap_s": 0.01} | fields
    shape = (1000, n_columns) if n_columns > 1 else (1000,)
    return SeriesContents(path, neurodata_type, shape, **values)  # type: ignore[arg-type]


def contents(*items: SeriesContents) -> FileContents:
    return FileContents(Path("a.nwb"), NO_UNITS, np.empty(0), None, list(items), None, None, UnitSettings())


def test_likely_series_come_first_and_neural_ones_are_left_out() -> None:
    file = contents(
        series("acquisition/light"),
        series("acquisition/pupil"),
        series("acquisition/hand_vel_3d", 3),
        series("acquisition/hand_vel", 2),
        series("acquisition/raw", 96, "ElectricalSeries"),
        series("acquisition/velocity", problem="no timestamps"),
    )
    paths = [item.path.rpartition("/")[2] for item in behavior_candidates(file)]
    assert paths == ["hand_vel", "hand_vel_3d", "pupil", "light"]


def test_repeated_names_are_paths() -> None:
    file = contents(series("acquisition/left/vel"), series("acquisition/right/vel"), series("acquisition/pupil"))
    assert [unique_name(item, file) for item in file.series] == [
        "acquisition/left/vel",
        "acquisition/right/vel",
        "pupil",
    ]


@pytest.mark.parametrize(
    "names",
    [("vel_x", "vel_y"), ("vel_x", "vel_y", "vel_z"), ("X", "Y"), ("posX", "posY"), ("emg_0", "emg_1", "emg_10")],
)
def test_axes_of_one_signal_are_found_in_their_order(names: tuple[str, ...]) -> None:
    items = [series(f"{MODULE}/{name}") for name in reversed(names)]
    for item in items:
        components = axis_components(item, [*items, series(f"{MODULE}/pupil")])
        assert [component.path for component in components] == [f"{MODULE}/{name}" for name in names]


@pytest.mark.parametrize(
    "other",
    [
        series(f"{MODULE}/pos_y"),
        series("acquisition/vel_y"),
        series(f"{MODULE}/vel_y", first_s=0.5),
        series(f"{MODULE}/vel_y", unit="deg"),
        series(f"{MODULE}/vel_y", 2),
        series(f"{MODULE}/vel"),
    ],
)
def test_other_series_are_no_axes(other: SeriesContents) -> None:
    first = series(f"{MODULE}/vel_x")
    assert axis_components(first, [first, other]) == [first]
