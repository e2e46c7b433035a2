"""Tests of the values of time series: types, shapes, conversion and intervals, against pynwb and numpy."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.behavior_files import VELOCITY, velocity_series, write_behavior
from hypothesis import given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.image import IndexSeries
from pynwb.misc import AnnotationSeries

from blend_pl.data.io.nwb import open_nwb, read_time_series
from blend_pl.data.io.series_values import interval_states
from blend_pl.errors import DataError


def add_emg(file: NWBFile) -> None:
    device = file.create_device("device")
    group = file.create_electrode_group("group", "muscles", "arm", device)
    for _ in range(2):
        file.add_electrode(location="arm", group=group)
    electrodes = file.create_electrode_table_region([0, 1], "both")
    counts = (1000 * VELOCITY).astype(np.int16)
    file.add_acquisition(
        ElectricalSeries(
            "emg", counts, electrodes, rate=100.0, conversion=0.25, offset=-3.0, channel_conversion=[1.0, 0.5]
        )
    )


def test_conversion_and_offset_are_those_of_pynwb(tmp_path: Path) -> None:
    counts = (1000 * VELOCITY).astype(np.int16)
    series = velocity_series(data=counts, conversion=0.001, offset=2.5)
    path = write_behavior(tmp_path / "a.nwb", [series], add_emg)
    with open_nwb(path) as file:
        velocity, emg = read_time_series(file, "velocity"), read_time_series(file, "emg")
        stored = read_time_series(file, "velocity", stored=True)
    with NWBHDF5IO(str(path), "r") as io:
        nwb = io.read()
        expected = nwb.acquisition["velocity"].get_data_in_units()
        expected_emg = np.array(nwb.acquisition["emg"].get_data_in_units())
    np.testing.assert_allclose(velocity.data, expected, atol=1e-12)
    np.testing.assert_allclose(emg.data, expected_emg, atol=1e-12)
    np.testing.assert_array_equal(stored.data, counts)
    assert velocity.unit == "m/s"


def test_values_without_conversion_stay_bit_by_bit(tmp_path: Path) -> None:
    data = VELOCITY.astype(np.float32)
    with open_nwb(write_behavior(tmp_path / "a.nwb", [velocity_series(data=data)])) as file:
        values = read_time_series(file, "velocity").data
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, data)


@pytest.mark.parametrize("has_rate", [True, False])
def test_transposed_data_raise_before_they_are_read(tmp_path: Path, has_rate: bool) -> None:
    path = write_behavior(tmp_path / "a.nwb", [velocity_series()])
    with h5py.File(path, "a") as file:
        group = file["acquisition/velocity"]
        del group["data"]
        group.create_dataset("data", shape=(2, 3000), dtype=np.float64)
        if has_rate:
            del group["timestamps"]
            group["starting_time"] = 0.0
            group["starting_time"].attrs["rate"] = 100.0
    with open_nwb(path) as file, pytest.raises(DataError, match=r"2 samples by 3000 columns.*transposed\?"):
        read_time_series(file, "velocity")


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (AnnotationSeries(name="events", data=["lick", "lick"], timestamps=[1.0, 2.0]), "texts at points in time"),
        (velocity_series("events", continuity="instantaneous"), "marked as instantaneous"),
        (velocity_series("events", conversion=0.0), "has the conversion 0"),
        (velocity_series("events", offset=float("nan")), "has the offset nan"),
        (TimeSeries(name="events", data=np.zeros((9, 2, 2)), rate=1.0, unit="a"), "a series of numbers is needed"),
    ],
)
def test_series_that_are_no_signal_raise(tmp_path: Path, series: TimeSeries, message: str) -> None:
    with open_nwb(write_behavior(tmp_path / "a.nwb", [series])) as file, pytest.raises(DataError, match=message):
        read_time_series(file, "events")


@given(
    bounds=st.lists(st.tuples(st.integers(0, 500), st.integers(1, 3), st.booleans()), min_size=1, max_size=30),
)
@settings(deadline=None, max_examples=50)
def test_states_are_those_of_the_last_bound_of_each_kind(bounds: list[tuple[int, int, bool]]) -> None:
    bounds = sorted(bounds, key=lambda bound: bound[0])
    times = np.array([time for time, _, _ in bounds], dtype=float)
    codes = np.array([kind if starts else -kind for _, kind, starts in bounds])
    state_times, states, kinds = interval_states(times, codes, "running")
    assert state_times[0] == -np.inf
    assert (np.diff(state_times) > 0).all()
    for at in (-1.0, 0.0, 250.5, 600.0):
        row = np.searchsorted(state_times, at, side="right") - 1
        for column, name in enumerate(kinds):
            of_kind = [(time, starts) for time, kind, starts in bounds if kind == int(name)]
            before = [starts for time, starts in of_kind if time <= at]
            assert states[row, column] == (before[-1] if before else not of_kind[0][1])


@pytest.mark.parametrize(
    ("times", "codes", "message"),
    [([1.0, 2.0], [1, 0], "the value 0"), ([1.0, 2.0], [0.5, -0.5], "the value 0.5"), ([2.0, 1.0], [1, -1], "order")],
)
def test_invalid_bounds_raise(times: list[float], codes: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        interval_states(np.array(times), np.array(codes), "running")


def test_index_series_raise(tmp_path: Path) -> None:
    def add_index(file: NWBFile) -> None:
        from pynwb.base import Images
        from pynwb.image import GrayscaleImage

        images = Images(name="images", images=[GrayscaleImage(name="a", data=np.zeros((2, 2)))])
        file.add_stimulus_template(images)
        file.add_stimulus(
            IndexSeries(name="shown", data=[0, 0], indexed_images=images, unit="N/A", timestamps=[1.0, 2])
        )

    with (
        open_nwb(write_behavior(tmp_path / "a.nwb", extend=add_index)) as file,
        pytest.raises(DataError, match="indices"),
    ):
        read_time_series(file, "shown")


@pytest.mark.parametrize(("code", "dtype"), [(-9999.0, np.float64), (99.0, np.float32), (-32768.0, np.int16)])
def test_codes_for_missing_values_raise(tmp_path: Path, code: float, dtype: type) -> None:
    data = (VELOCITY * (100 if dtype == np.int16 else 1)).astype(dtype)
    data[100:120, 1] = code
    path = write_behavior(tmp_path / "a.nwb", [velocity_series(data=data, conversion=0.1)])
    with open_nwb(path) as file:
        with pytest.raises(DataError, match=rf"{code:g} in 20 of 3000 samples of column 1, .* write NaN"):
            read_time_series(file, "velocity")
        np.testing.assert_array_equal(read_time_series(file, "velocity", stored=True).data, data)


def test_extreme_values_near_others_are_no_codes(tmp_path: Path) -> None:
    data = np.clip(np.round(120 * VELOCITY), -99, 99)
    with open_nwb(write_behavior(tmp_path / "a.nwb", [velocity_series(data=data)])) as file:
        np.testing.assert_array_equal(read_time_series(file, "velocity").data, data)


def test_empty_series_raises(tmp_path: Path) -> None:
    path = write_behavior(tmp_path / "a.nwb", [velocity_series(data=VELOCITY)])
    with h5py.File(path, "a") as file:
        group = file["acquisition/velocity"]
        for name, shape in (("data", (0, 2)), ("timestamps", (0,))):
            del group[name]
            group[name] = np.empty(shape)
    with open_nwb(path) as file, pytest.raises(DataError, match="0 samples and 0 timestamps"):
        read_time_series(file, "velocity")


@pytest.mark.parametrize("sample", [0, 7, 2999])
def test_missing_timestamps_raise(tmp_path: Path, sample: int) -> None:
    path = write_behavior(tmp_path / "a.nwb", [velocity_series(data=VELOCITY)])
    with h5py.File(path, "a") as file:
        file["acquisition/velocity/timestamps"][sample] = np.nan
    with open_nwb(path) as file, pytest.raises(DataError, match=rf"1 of 3000 .* not finite \(first: sample {sample}\)"):
        read_time_series(file, "velocity")
