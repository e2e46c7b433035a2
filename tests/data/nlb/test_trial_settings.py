"""Tests of settings whose columns of the trials table say nothing about any trial, and of sessions without trials."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.small_nwb import edit_file, small_session, write_small

from blend_pl.data.nlb.reading import read_session
from blend_pl.data.nlb.spec import (
    BehaviorSpec,
    HeldOutSpec,
    PsthSpec,
    ScoringWindow,
    SessionFiles,
    SessionSpec,
    SplitSpec,
    WindowSpec,
)
from blend_pl.errors import DataError

SESSION = small_session(n_trials=40)
SPEC = SessionSpec(
    "own",
    SessionFiles("own.nwb"),
    WindowSpec(0, 200, "go_time", 100),
    BehaviorSpec("hand_vel"),
    HeldOutSpec(None, fraction=0.25),
    SplitSpec(None),
)


def write(folder: Path, **columns: np.ndarray) -> Path:
    def add(file: h5py.File) -> None:
        for name, values in columns.items():
            file["intervals/trials"].pop(name, None)
            file[f"intervals/trials/{name}"] = values

    return edit_file(write_small(folder / "own.nwb", SESSION), add)


@pytest.mark.parametrize(
    ("spec", "values", "message"),
    [
        (replace(SPEC, behavior=BehaviorSpec("hand_vel", trial_columns=["x"])), np.full(40, np.nan), "no value in any"),
        (replace(SPEC, behavior=BehaviorSpec(categories=["x"])), np.arange(40.0), "are no categories; name a column"),
        (replace(SPEC, psth=PsthSpec(["x"], 50)), np.full(40, np.nan), r"no condition of psth \(x\)"),
        (
            replace(SPEC, decode_by="x"),
            np.arange(40.0),
            r"decoder \d+ of .* set decode_by to a column with fewer values",
        ),
        (replace(SPEC, outlier_column="x"), np.ones(40), "check .* that outlier_column does not mark all"),
        (replace(SPEC, window=replace(SPEC.window, align="x")), np.full(40, np.nan), "none of 40 trials has a time x"),
    ],
)
def test_columns_without_information_raise(tmp_path: Path, spec: SessionSpec, values: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_session(spec, write(tmp_path, x=values), None, 20)


def test_exchanged_scoring_window_raises(tmp_path: Path) -> None:
    path = write(tmp_path, late=SESSION.starts + 0.4, early=SESSION.starts + 0.25)
    with pytest.raises(DataError, match=r"40 of 40 trials with early at or before late, .* exchange scoring_window"):
        read_session(replace(SPEC, scoring_window=ScoringWindow("late", "early")), path, None, 20)
    tensors = read_session(replace(SPEC, scoring_window=ScoringWindow("early", "late")), path, None, 20)
    assert tensors["train"].scoring_mask.sum(1).unique().tolist() == [7]


def test_trials_outside_the_recording_are_named_as_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path)

    def invalidate(file: h5py.File) -> None:
        table = file.create_group("intervals/invalid_times")
        table["start_time"], table["stop_time"] = np.array([0.0]), np.array([100.0])

    edit_file(path, invalidate)
    with pytest.raises(DataError, match=r"all 40 trials are outside the recording \(invalid_times cover 100 %"):
        read_session(SPEC, path, None, 20)


def test_empty_trials_table_is_named_as_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path)

    def empty(file: h5py.File) -> None:
        for name in list(file["intervals/trials"]):
            values = file[f"intervals/trials/{name}"][:0]
            del file[f"intervals/trials/{name}"]
            file[f"intervals/trials/{name}"] = values

    edit_file(path, empty)
    with pytest.raises(DataError, match="the trials table has no rows"):
        read_session(SPEC, path, None, 20)
