"""Tests of the identity of sessions and of lines on what is left out."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.lfp import InMemory, make_lfp, recording
from helpers.probe_files import potentials, write_probes
from helpers.systems import trainer
from pynwb import TimeSeries
from pynwb.misc import IntervalSeries

from blend_pl.data.io.selection import RowSelection
from blend_pl.data.lfp import LFPSpec, MultiSessionDataModule
from blend_pl.data.lfp.reading import read_sessions
from blend_pl.data.lfp.spec import LFPSeriesNames
from blend_pl.errors import ConfigError, DataError
from blend_pl.systems import LFPStudent, SingleSessionStudent

NAMES = LFPSeriesNames(velocity="hand_vel")
SPEC = LFPSpec("own", nwb=["**/*.nwb"], names=NAMES)


def write(path: Path, seed: int = 0, subject: str | None = "R1") -> None:
    write_probes(path, {"ElectricalSeries": {"data": potentials(3, seed)}}, subject=subject, n_electrodes=3)


def test_files_of_one_name_are_sessions_of_their_folders(tmp_path: Path) -> None:
    for rat in ("rat1", "rat2"):
        write(tmp_path / rat / "day1.nwb", seed=int(rat[-1]), subject=None)
    (tmp_path / "rat1/._day1.nwb").write_bytes(b"\x00\x05\x16\x07 no recording")
    recordings = read_sessions(SPEC, tmp_path)
    assert [recording.name for recording in recordings] == ["rat1/day1", "rat2/day1"]
    assert [recording.subject for recording in recordings] == ["rat1/day1", "rat2/day1"]
    assert all("has no subject_id" in recording.notes[0] for recording in recordings)


def test_copy_in_another_folder_raises(tmp_path: Path) -> None:
    write(tmp_path / "rat1/day1.nwb")
    (tmp_path / "rat2").mkdir()
    shutil.copy(tmp_path / "rat1/day1.nwb", tmp_path / "rat2/day7.nwb")
    with pytest.raises(DataError, match=r"rat2/day7\.nwb and .*rat1/day1\.nwb contain the same recording; .*spec\.nwb"):
        read_sessions(SPEC, tmp_path)


def test_bad_channels_belong_to_a_session(tmp_path: Path) -> None:
    for rat in ("rat1", "rat2"):
        write(tmp_path / rat / "day1.nwb", seed=int(rat[-1]))
    spec = LFPSpec("own", nwb=["**/*.nwb"], names=NAMES, bad_channels={"rat2/day1": [1]})
    assert [recording.channel_id for recording in read_sessions(spec, tmp_path)] == [("e0", "e1", "e2"), ("e0", "e2")]
    everywhere = LFPSpec("own", nwb=["**/*.nwb"], names=NAMES, bad_channels=["e0"])
    assert [recording.channel_id for recording in read_sessions(everywhere, tmp_path)] == [("e1", "e2")] * 2
    typo = LFPSpec("own", nwb=["**/*.nwb"], names=NAMES, bad_channels={"rat3/day1": [1]})
    with pytest.raises(ConfigError, match=r"bad_channels names the session rat3/day1, .* only rat1/day1, rat2/day1"):
        read_sessions(typo, tmp_path)


def test_left_out_channels_are_logged_in_every_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "day1.nwb")
    spec = LFPSpec("own", nwb=["*.nwb"], names=NAMES, channels=RowSelection("location", ["M1"]), bad_channels=[2])
    for cached in (False, True):
        caplog.clear()
        module = MultiSessionDataModule(spec, str(tmp_path), length=100, split="random")
        assert (tmp_path / "cache").exists() == cached
        with caplog.at_level(logging.INFO), pytest.raises(DataError, match="too few"):
            module.setup("fit")
        assert "1 of 3 channels (33 %) are left out by data.spec.bad_channels: e2" in caplog.text


@pytest.mark.parametrize(("value", "problem"), [(3.0, "is constant"), (np.nan, "has no finite value")])
def test_behavior_that_cannot_be_scored_raises(tmp_path: Path, value: float, problem: str) -> None:
    times = np.arange(2400) / 100
    data = np.stack([np.sin(times), np.full(2400, value)], axis=1)
    velocity = TimeSeries(name="hand_vel", data=data, unit="m/s", timestamps=times)
    series = {"ElectricalSeries": {"data": potentials(3)}}
    write_probes(tmp_path / "day1.nwb", series, behavior=velocity, n_electrodes=3)
    with pytest.raises(DataError, match=rf"column 1 of hand_vel of .* {problem} .*data\.spec\.names\.columns"):
        MultiSessionDataModule(SPEC, str(tmp_path), length=100).setup("fit")


def test_intervals_are_no_velocity(tmp_path: Path) -> None:
    events = IntervalSeries(name="hand_vel", data=np.tile([1, -1], 10), timestamps=np.arange(20) * 1.0)
    write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": {"data": potentials(3)}}, behavior=events, n_electrodes=3)
    with pytest.raises(
        DataError, match=r"hand_vel of .* is an IntervalSeries, not a continuous signal; set data\.spec"
    ):
        read_sessions(SPEC, tmp_path)


def test_models_train_on_sessions_named_after_folders(tmp_path: Path) -> None:
    names = {"a1": "rat1.a/day.1", "a2": "rat2/day.1"}
    module = InMemory([replace(recording(size, 3000), name=name) for size, name in names.items()])
    module.setup("fit")
    for system_class in (LFPStudent, SingleSessionStudent):
        fit_trainer = trainer(tmp_path, 1)
        fit_trainer.fit(make_lfp(system_class), datamodule=module)
        assert fit_trainer.callback_metrics["train/loss"].isfinite()
