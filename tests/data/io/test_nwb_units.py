"""Tests of units tables: index vectors, types, ids, and times that are not those of a session."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.small_nwb import Edit, SmallSession, edit_file, replace_dataset, small_session, write_small
from hypothesis import given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO

from blend_pl.data.io.nwb import Units, open_nwb, read_units
from blend_pl.data.io.nwb_tables import read_row_stops
from blend_pl.errors import DataError

SESSION = small_session()
SPIKES, STOPS = "units/spike_times", "units/spike_times_index"


def read(path: Path) -> Units:
    with open_nwb(path) as file:
        return read_units(file)


def write_with(path: Path, edit: Edit, session: SmallSession = SESSION) -> Path:
    return edit_file(write_small(path / "small.nwb", session), edit)


def per_unit(change: Callable[[np.ndarray], np.ndarray]) -> SmallSession:
    return replace(SESSION, spikes=[change(times) for times in SESSION.spikes])


def from_trial_start(times: np.ndarray) -> np.ndarray:
    return np.concatenate([times[(times >= s) & (times < s + SESSION.trial_s)] - s for s in SESSION.starts])


def swapped(first: str, second: str) -> Edit:
    def edit(file: h5py.File) -> None:
        file.move(first, "units/moved")
        file.move(second, first)
        file.move("units/moved", second)

    return edit


def removed(name: str) -> Edit:
    return lambda file: file.__delitem__(name)


def as_compound(values: np.ndarray) -> np.ndarray:
    return np.array(list(zip(values, values, strict=True)), dtype=[("time", float), ("amplitude", float)])


def as_text(values: np.ndarray) -> np.ndarray:
    return np.array([str(value) for value in values], dtype=h5py.string_dtype())


def with_rows_swapped(values: np.ndarray) -> np.ndarray:
    return values[[1, 0, *range(2, len(values))]]


INDEX_EDITS: list[tuple[Edit, str]] = [
    (replace_dataset(STOPS, lambda stops: stops.astype(int) + 5), r"ends at \d+, beyond the \d+ values of spike_times"),
    (replace_dataset(STOPS, lambda stops: stops.astype(int) - 5), r"ends at \d+, before the \d+ values of spike_times"),
    (replace_dataset(STOPS, lambda stops: stops[::-1]), r"runs backwards \(row 1 ends at"),
    (replace_dataset(STOPS, with_rows_swapped), r"runs backwards \(row 1 ends at"),
    (
        replace_dataset(STOPS, lambda stops: stops.astype(np.uint8)),
        r"uint8 cannot count \d+ values: write it as int64",
    ),
    (replace_dataset(STOPS, lambda stops: -stops.astype(np.int64)), r"runs backwards \(row 0 ends at -\d+, after 0\)"),
    (replace_dataset(STOPS, lambda stops: stops[:0]), "has 0 rows and id has 8"),
    (replace_dataset(STOPS, lambda stops: stops[:3]), "has 3 rows and id has 8"),
    (replace_dataset(STOPS, lambda stops: stops[:, None]), r"of shape \(8, 1\); a one-dimensional array of numbers"),
    (replace_dataset(STOPS, lambda stops: stops.astype(float)), "is float64; an index vector is of integers"),
    (replace_dataset(STOPS, as_text), "is text of shape"),
    (swapped(STOPS, "units/obs_intervals_index"), r"spike_times_index in units of .* is the index of units/obs_inter"),
    (removed(STOPS), "has spike_times without spike_times_index"),
    (removed("units/obs_intervals_index"), "has obs_intervals without obs_intervals_index"),
]


@pytest.mark.parametrize(("edit", "message"), INDEX_EDITS)
def test_index_vectors_that_do_not_divide_the_values_raise(tmp_path: Path, edit: Edit, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write_with(tmp_path, edit))
    assert "\n" not in str(caught.value)


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    dtype=st.sampled_from(["u1", "u2", "i4", "i8", "u8"]),
    noise=st.lists(st.integers(-3, 3), min_size=6, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_index_vectors_are_read_exactly_or_refused(counts: list[int], dtype: str, noise: list[int]) -> None:
    n_values = sum(counts)
    stops = (np.cumsum(counts) + noise[: len(counts)]).astype(dtype)
    ends = stops.astype(np.int64)
    is_valid = bool((np.diff(ends, prepend=0) >= 0).all() and ends[-1] == n_values)
    with h5py.File("index.h5", "w", driver="core", backing_store=False) as file:
        table = file.create_group("units")
        table["spike_times"], table["spike_times_index"] = np.arange(n_values, dtype=float), stops
        if is_valid:
            np.testing.assert_array_equal(read_row_stops(table, "spike_times", n_values), stops)
        else:
            with pytest.raises(DataError, match="spike_times_index in units of"):
                read_row_stops(table, "spike_times", n_values)


TYPE_EDITS: list[tuple[Edit, str]] = [
    (replace_dataset(SPIKES, lambda times: np.stack([times, times], axis=1)), r"of shape \(\d+, 2\); a one-dimension"),
    (replace_dataset(SPIKES, lambda times: times[:, None]), r"of shape \(\d+, 1\); a one-dimensional array of numbers"),
    (replace_dataset(SPIKES, as_compound), "is a compound type"),
    (replace_dataset(SPIKES, as_text), "is text of shape"),
    (replace_dataset(SPIKES, lambda times: times.astype(complex)), "a compound type|complex128"),
    (replace_dataset(SPIKES, lambda times: times[0]), r"of shape \(\)"),
    (replace_dataset("units/id", lambda ids: ids.astype(float)), "id in units of .* is float64; ids are integers"),
    (replace_dataset("units/id", lambda ids: ids[:5]), "has 8 rows and id has 5"),
    (replace_dataset("units/quality", lambda names: names[:5]), "has 8 rows in column id and 5 in column quality"),
    (replace_dataset("units/obs_intervals", lambda rows: rows[:, 0]), r"a \(rows, 2\) array of numbers is needed"),
    (replace_dataset("units/id", lambda ids: ids // 6), r"3 unit ids that occur more than once \(first: 2\)"),
]


@pytest.mark.parametrize(("edit", "message"), TYPE_EDITS)
def test_columns_of_another_type_or_shape_raise(tmp_path: Path, edit: Edit, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write_with(tmp_path, edit))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["u2", "i4", "i8", "u8"])
def test_index_vectors_of_any_sufficient_integer_type_are_read(tmp_path: Path, dtype: str) -> None:
    path = write_with(tmp_path, replace_dataset(STOPS, lambda stops: stops.astype(dtype)))
    units = read(path)
    with NWBHDF5IO(str(path), "r") as io:
        table = io.read().units
        for row in range(len(units)):
            np.testing.assert_array_equal(units.spike_times(row), table["spike_times"][row])


WRONG_TIMES: list[tuple[SmallSession, str]] = [
    (per_unit(from_trial_start), r"unit 10 in units of .* go back \d+ times .*; if they count from the start of each"),
    (per_unit(lambda times: times[::-1]), "they descend; write them in ascending order"),
    (per_unit(lambda times: -times), "they descend"),
    (per_unit(np.random.default_rng(0).permutation), r"go back \d+ times in \d+ steps .*sort them"),
    (per_unit(lambda times: np.tile(times, 2)), "go back 1 times in"),
    (per_unit(lambda times: np.round(times * 30_000)), "are whole numbers, .* samples or milliseconds"),
    (per_unit(lambda times: np.rint(times * 1000).astype(np.int64)), "are whole numbers"),
    (per_unit(lambda times: (times + 18_000).astype(np.float32)), r"float32, which resolves 2 ms at 18\d+ s; write"),
    (per_unit(lambda times: (times + 18_000).astype(np.float32).astype(float)), "float32, which resolves 2 ms"),
    (per_unit(lambda times: times.astype(np.float16)), "float16, which resolves"),
    (replace(SESSION, spikes=[*SESSION.spikes[:-1], SESSION.spikes[0]]), r"units 10 and 31 in .* have the same \d+"),
]


@pytest.mark.parametrize(("session", "message"), WRONG_TIMES)
def test_times_that_are_not_seconds_of_one_session_raise(tmp_path: Path, session: SmallSession, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write_small(tmp_path / "small.nwb", session))
    assert "\n" not in str(caught.value)


def test_spikes_of_all_units_in_reverse_order_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"they descend; .* or correct spike_times_index"):
        read(write_with(tmp_path, replace_dataset(SPIKES, lambda times: times[::-1])))


def test_an_index_that_is_off_by_spikes_raises(tmp_path: Path) -> None:
    def shifted(stops: np.ndarray) -> np.ndarray:
        return np.append(stops[:-1] + 4, stops[-1])

    with pytest.raises(DataError, match=r"go back 1 times .*correct spike_times_index"):
        read(write_with(tmp_path, replace_dataset(STOPS, shifted)))


def test_an_inexact_order_is_read_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spikes = [times.copy() for times in SESSION.spikes]
    spikes[2][5:7] = [3.0005, 3.0]
    spikes[2][:5], spikes[2][7:] = np.linspace(1, 2, 5), np.linspace(4, 19, len(spikes[2]) - 7)
    path = write_small(tmp_path / "small.nwb", replace(SESSION, spikes=spikes))
    with caplog.at_level(logging.WARNING):
        units = read(path)
    np.testing.assert_array_equal(units.spike_times(2), spikes[2])
    assert "1 of" in caplog.text
    assert "out of order by at most 0.5 ms; they are sorted" in caplog.text


def test_repeated_times_are_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spikes = [np.repeat(SESSION.spikes[0], 2), *SESSION.spikes[1:]]
    path = write_small(tmp_path / "small.nwb", replace(SESSION, spikes=spikes))
    with caplog.at_level(logging.WARNING):
        units = read(path)
    np.testing.assert_array_equal(units.spike_times(0), spikes[0])
    assert f"{len(SESSION.spikes[0])} of {sum(map(len, spikes))} spike times" in caplog.text
    assert "repeat the previous time of their unit, in 1 of 8 units; each counts as a spike" in caplog.text


def test_float32_times_within_an_hour_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    session = per_unit(lambda times: times.astype(np.float32))
    units = read(write_small(tmp_path / "small.nwb", session))
    np.testing.assert_array_equal(units.times, np.concatenate(session.spikes).astype(np.float64))
    assert not caplog.text


@given(shift=st.floats(-1e4, 1e4), scale=st.floats(0.5, 20.0), seed=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_any_ascending_times_are_read_as_pynwb_reads_them(
    tmp_path_factory: pytest.TempPathFactory, shift: float, scale: float, seed: int
) -> None:
    session = small_session(n_units=3, n_trials=4, seed=seed)
    session = replace(session, spikes=[shift + scale * times for times in session.spikes])
    path = write_small(tmp_path_factory.mktemp("times") / "small.nwb", session)
    units = read(path)
    for row, times in enumerate(session.spikes):
        np.testing.assert_array_equal(units.spike_times(row), times)


@pytest.mark.parametrize(("content", "message"), [("nwb_version", "is in NWB 1"), ("x", "is not an NWB 2 file")])
def test_files_of_other_formats_are_named(tmp_path: Path, content: str, message: str) -> None:
    with h5py.File(tmp_path / "old.nwb", "w") as file:
        file[content] = "NWB-1.0.5"
    with h5py.File(tmp_path / "old.nwb") as file, pytest.raises(DataError, match=f"{message}.* no units table"):
        read_units(file)
