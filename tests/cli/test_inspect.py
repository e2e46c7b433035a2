"""Tests of the command that shows the contents of an NWB file and proposes a data file."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import yaml
from helpers.behavior_files import TIMES, VELOCITY, velocity_series, write_behavior
from helpers.calcium_files import write_calcium
from helpers.lfp_files import write_lfp_nwb
from helpers.nwb_files import write_maze, write_own
from helpers.small_nwb import edit_file
from pynwb import NWBFile

from blend_pl.cli.inspect import inspect_file, propose_data_file
from blend_pl.config import compose
from blend_pl.data.io.contents import read_contents
from blend_pl.errors import ConfigError, DataError


def proposed(
    path: Path, capsys: pytest.CaptureFixture[str], kind: Literal["spikes", "lfp", "calcium"] | None = None
) -> tuple[dict, str]:
    """Returns the spec in the data file of a recording, and what the command prints."""
    out = path.parent / "my_session.yaml"
    inspect_file(str(path), str(out), kind)
    arguments = yaml.safe_load(out.read_text())["data"]["init_args"]
    return arguments, capsys.readouterr().out


def test_recording_without_trials_gets_continuous_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, text = proposed(write_own(tmp_path / "my_session.nwb"), capsys)
    assert arguments["spec"]["behavior"]["series"] == "running"
    assert arguments["spec"]["window"]["stride_ms"] == 800
    assert arguments["spec"]["split"]["by"] == "block"
    assert "units: 24 with" in text
    assert "acquisition/running: TimeSeries, 6000, 100 Hz, unit cm/s, 0 to 59.99 s" in text


def test_benchmark_file_gets_its_own_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_file = write_maze(tmp_path).train
    arguments, text = proposed(train_file, capsys)
    spec = arguments["spec"]
    assert spec["window"]["align"] == "move_onset_time"
    assert spec["behavior"]["series"] == "hand_vel"
    assert spec["behavior"]["lag_ms"] == 100
    assert spec["held_out"]["column"] == "heldout"
    assert spec["split"]["column"] == "split"
    assert spec["psth"] == {"condition": ["trial_type"], "smoothing_ms": 50}
    assert "36 train, 12 val" in text
    # Few trials: a small network, a budget in steps, and no synthetic trials.
    assert text.endswith(
        "  blend_pl fit --config experiments/mc_maze_small.yaml --config configs/model/ndt_small.yaml "
        f"--config configs/trainer/few_trials.yaml --config {train_file.parent / 'my_session.yaml'} "
        "--config configs/arm/generative_posterior.yaml\n"
    )


@pytest.mark.parametrize(
    ("n_train", "arm", "small"),
    [(59, "generative_posterior", True), (60, "generative", True), (500, "generative", False)],
)
def test_number_of_trials_decides_on_arm_and_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], n_train: int, arm: str, small: bool
) -> None:
    _, text = proposed(write_maze(tmp_path, n_train=n_train).train, capsys)
    assert f"--config configs/arm/{arm}.yaml" in text
    assert ("configs/model/ndt_small.yaml" in text) == ("configs/trainer/few_trials.yaml" in text) == small


def test_unusable_series_are_reported_and_not_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    constant = velocity_series("velocity", np.ones(len(TIMES)))
    path = write_behavior(tmp_path / "own.nwb", [constant, velocity_series("pupil", VELOCITY[:, 0])])
    arguments, text = proposed(path, capsys)
    assert arguments["spec"]["behavior"]["series"] == "pupil"
    assert "not used, velocity: velocity in" in text
    assert "has the value 1 in all samples" in text


def test_angles_get_their_period(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heading = velocity_series("heading", 90 * TIMES % 360, unit="degrees")
    arguments, _ = proposed(write_behavior(tmp_path / "own.nwb", [heading]), capsys)
    assert arguments["spec"]["behavior"]["period"] == 360.0


def test_file_without_behavior_gets_a_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def add_trials(file: NWBFile) -> None:
        for row in range(28):
            file.add_trial(start_time=float(row), stop_time=row + 0.9)

    arguments, text = proposed(write_behavior(tmp_path / "own.nwb", extend=add_trials), capsys)
    assert arguments["spec"]["behavior"] is None
    assert arguments["spec"]["window"]["align"] == "start_time"
    assert "configs/arm/baseline.yaml" in text


def test_data_file_composes_with_a_set_and_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_own(tmp_path / "odd [name].nwb")
    proposed(path, capsys)
    files = [Path("experiments/mc_maze_small.yaml"), tmp_path / "my_session.yaml"]
    arguments = compose(*files)["data"]["init_args"]
    assert arguments["spec"]["archive"] is None
    assert arguments["root"] == str(tmp_path)
    # Its windows do not start at an event.
    teacher = compose(*files, Path("configs/arm/generative_teacher.yaml"))["model"]["init_args"]["backbone"]
    assert teacher["init_args"]["summary"] == 0
    assert (tmp_path / "my_session.yaml").read_text().count("#") > 6


def test_existing_data_file_is_kept(tmp_path: Path) -> None:
    path = write_own(tmp_path / "my_session.nwb")
    out = tmp_path / "my_session.yaml"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="exists; choose another --out"):
        inspect_file(str(path), str(out))
    assert out.read_text() == "mine"


def test_file_without_units_raises(tmp_path: Path) -> None:
    path = tmp_path / "text.nwb"
    path.write_text("no HDF5")
    with pytest.raises(DataError, match="cannot read"):
        inspect_file(str(path))


def test_field_potentials_get_a_data_file_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", seconds=62.0)
    arguments, text = proposed(tmp_path / "day1.nwb", capsys, "lfp")
    assert arguments["spec"]["names"] == {
        "lfp": None,
        "velocity": "vel",
        "position": None,
        "columns": None,
        "line_hz": 60.0,
        "smoothing_ms": 30.0,
    }
    assert arguments["spec"]["nwb"] == ["day1.nwb"]
    assert "4 channels" in text
    config = compose(Path("experiments/makin.yaml"), tmp_path / "my_session.yaml")
    assert config["data"]["class_path"] == "blend_pl.data.lfp.MultiSessionDataModule"


def test_file_with_units_gets_spikes_and_names_its_field_potentials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", seconds=62.0)
    contents = read_contents(tmp_path / "day1.nwb")
    assert propose_data_file(contents).class_path == "blend_pl.data.NLBDataModule"
    assert propose_data_file(contents, "spikes").class_path == "blend_pl.data.NLBDataModule"
    assert propose_data_file(contents, "lfp").class_path == "blend_pl.data.lfp.MultiSessionDataModule"
    inspect_file(str(tmp_path / "day1.nwb"))
    remark = "the file also holds field potentials (acquisition/potentials); for models of them, add --kind lfp"
    assert f"  - {remark}\n" in capsys.readouterr().out
    with pytest.raises(DataError, match="no RoiResponseSeries"):
        propose_data_file(contents, "calcium")


def test_file_with_field_potentials_alone_gets_them(tmp_path: Path) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", seconds=62.0, n_units=0)
    contents = read_contents(tmp_path / "day1.nwb")
    data_file = propose_data_file(contents)
    assert data_file.class_path == "blend_pl.data.lfp.MultiSessionDataModule"
    assert "0 units, 4 channels" in data_file.sizes
    with pytest.raises(DataError, match="no units table with spike_times"):
        propose_data_file(contents, "spikes")


def test_field_potentials_that_cannot_be_read_are_left_to_spikes(tmp_path: Path) -> None:
    write_lfp_nwb(tmp_path / "day1.nwb", seconds=38.0, n_units=8)
    contents = read_contents(tmp_path / "day1.nwb")
    data_file = propose_data_file(contents)
    assert data_file.class_path == "blend_pl.data.NLBDataModule"
    assert "the file also holds field potentials (acquisition/potentials)" in data_file.remarks[0]
    with pytest.raises(DataError, match="choose a longer one"):
        propose_data_file(contents, "lfp")


def test_traces_get_a_calcium_data_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.array(["EC", "IN", "unknown", "Pvalb-Tac1", "Sst-Chodl", "Vip-Crh"] * 10)
    write_calcium(tmp_path / "day1.nwb", rois=60, label=labels)
    arguments, text = proposed(tmp_path / "day1.nwb", capsys)
    spec = arguments["spec"]
    assert spec["behavior"] == ["speed"]
    assert spec["types"] == {
        "excitatory": ["EC"],
        "inhibitory": ["IN"],
        "untyped": ["unknown"],
        "subclasses": ["Pvalb", "Sst", "Vip"],
        "merged": {},
    }
    assert arguments["window"] == 80
    assert arguments["names"]["cell_type"] == "cell_type"
    assert "units: none" in text
    config = compose(Path("experiments/bugeon_single_animal.yaml"), tmp_path / "my_session.yaml")
    assert config["data"]["init_args"]["spec"]["archive"] is None


def test_cell_types_that_are_numbers_are_refused(tmp_path: Path) -> None:
    write_calcium(tmp_path / "day1.nwb", label=np.array(["0", "1", "2"] * 12))
    with pytest.raises(DataError, match="cell types that are numbers"):
        inspect_file(str(tmp_path / "day1.nwb"))


def test_file_without_units_and_traces_raises(tmp_path: Path) -> None:
    write_calcium(tmp_path / "day1.nwb")
    edit_file(tmp_path / "day1.nwb", lambda file: file["processing"].pop("ophys"))
    with pytest.raises(DataError, match="no units table with spike_times; choose a file with sorted units"):
        inspect_file(str(tmp_path / "day1.nwb"))
