"""Tests of behavior, outliers, scoring windows, conditions and timing from the trials table."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.nwb_files import Written, write_dmfc
from helpers.specs import DMFC_RSG

from blend_pl.data.nlb.reading import read_session, read_test_file
from blend_pl.data.nlb.spec import BehaviorSpec, SessionSpec
from blend_pl.errors import DataError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_dmfc(tmp_path_factory.mktemp("dmfc"), 4, 48, 40, 6, n_units=15)


def column(files: Written, name: str) -> np.ndarray:
    with h5py.File(files.train) as file:
        return file[f"intervals/trials/{name}"][()]


def test_outliers_and_short_trials_belong_to_no_condition(files: Written) -> None:
    session = read_session(DMFC_RSG, files.train, None, 5)
    short = 0
    for split in ("train", "val"):
        part = session[split]
        outlier = column(files, "is_outlier")[part.trial_id] != 0
        assert outlier.any()
        assert part.behavior[outlier].isnan().all()
        assert part.behavior[~outlier].isfinite().all()
        assert (part.condition[outlier] == -1).all()
        assert (part.timing_condition[outlier] == -1).all()
        assert (part.timing_condition[~outlier] >= 0).all()
        np.testing.assert_array_equal(part.produced_interval[~outlier], column(files, "tp")[part.trial_id][~outlier])
        short += int((part.condition[~outlier] == -1).sum())
    assert short > 0


def test_each_category_value_is_a_channel(files: Written) -> None:
    behavior = BehaviorSpec(trial_columns=["tp"], categories=["theta", "is_short", "ts"])
    session = read_session(replace(DMFC_RSG, behavior=behavior), files.train, files.test, 20)
    for split in ("train", "val"):
        part = session[split]
        channels = part.behavior[part.timing_condition >= 0, 0, 1:]
        for name, one_hot in (("theta", channels[:, :2]), ("is_short", channels[:, 2:4]), ("ts", channels[:, 4:])):
            values = column(files, name)[part.trial_id[part.timing_condition >= 0]]
            np.testing.assert_array_equal(one_hot.sum(1), 1)
            np.testing.assert_array_equal(np.unique(column(files, name))[one_hot.argmax(1)], values)
    assert session["test"].behavior.shape[-1] == channels.shape[1] + 1
    assert session["test"].behavior.isnan().all()


def test_scoring_window_is_set_to_go(files: Written) -> None:
    part = read_session(DMFC_RSG, files.train, None, 5)["train"]
    interval = column(files, "tp")[part.trial_id]
    np.testing.assert_allclose(5 * part.scoring_mask.sum(1), np.minimum(interval, 1500), atol=5)
    after = part.scoring_mask.flip(1).to(int).argmax(1)
    np.testing.assert_array_equal(after, part.jitter)


def test_test_file_without_these_columns(files: Written) -> None:
    test = read_test_file(DMFC_RSG, files.test, 5)
    assert test.scoring_mask.all()
    assert test.behavior.shape[-1] == 0
    assert not test.jitter.any()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            replace(DMFC_RSG, behavior=BehaviorSpec(trial_columns=["prior"])),
            "no column 'prior'; set behavior.trial_columns",
        ),
        (replace(DMFC_RSG, behavior=BehaviorSpec(trial_columns=["split"])), "must name columns of numbers"),
        (replace(DMFC_RSG, behavior=BehaviorSpec(categories=["target"])), "'target'; set behavior.categories"),
        (replace(DMFC_RSG, outlier_column="bad"), "no column 'bad'; set outlier_column"),
        (
            replace(DMFC_RSG, scoring_window=replace(DMFC_RSG.scoring_window, start="ready")),
            "no column 'ready'; set scoring_window.start",
        ),
        (replace(DMFC_RSG, timing=replace(DMFC_RSG.timing, interval="t")), "no column 't'; set timing.interval"),
    ],
)
def test_missing_columns_raise(spec: SessionSpec, message: str, files: Written) -> None:
    with pytest.raises(DataError, match=message):
        read_session(spec, files.train, None, 20)


def test_trial_without_time_raises(files: Written, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nwb"
    broken.write_bytes(files.train.read_bytes())
    row = int(np.flatnonzero(column(files, "split") == b"train")[3])
    with h5py.File(broken, "a") as file:
        file["intervals/trials/set_time"][row] = np.nan
    with pytest.raises(DataError, match=f"no set_time in row {row}; set that trial's split to none"):
        read_session(DMFC_RSG, broken, None, 20)
