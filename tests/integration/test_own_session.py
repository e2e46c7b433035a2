"""Experiments on a user's recording without a trials table."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.cli import REPOSITORY, TINY, call, experiment, run_here, teacher_args
from helpers.nwb_files import write_own

from blend_pl.cli.inspect import inspect_file

OWN = REPOSITORY / "configs" / "data" / "own_session.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("own")
    write_own(folder / "my_session.nwb")
    return [f"--data.root={folder}", "--data.spec.behavior.series=running"]


@pytest.fixture(scope="module")
def student(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distilled student; its teacher is trained first."""
    arguments = ["--config", experiment("mc_maze_hard"), "--config", OWN, *data, *TINY, teacher_args()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blend_pl.runs.teachers._run_subprocess", run_here)
        return call("fit", *arguments, f"--output={tmp_path_factory.mktemp('runs')}").run_dir


def test_student_and_teacher_are_trained_on_the_recording(student: Path) -> None:
    results = json.loads((student / "results.json").read_text())
    assert results["session"] == "own_session"
    assert results["scores"].keys() == {"co_bps", "vel_r2", "fp_bps"}
    assert all(np.isfinite(score) for score in results["scores"].values())
    teacher = json.loads((Path(results["teachers"][0]).parents[1] / "results.json").read_text())
    assert teacher["config"]["data"] == results["config"]["data"]
    assert teacher["config"]["model"]["class_path"] == "blend_pl.systems.Teacher"


def test_predict_writes_rates_of_the_test_block(student: Path) -> None:
    best = student / "checkpoints" / "best.ckpt"
    cli = call("predict", "--config", student / "config.yaml", "--ckpt_path", best, "--data.phase=test")
    bins, forward = 600 // 20, 200 // 20
    with h5py.File(student / "rates_test.h5") as file:
        shapes = {name: file[name].shape for name in file}
        assert (file["eval_rates_heldout"][()] > 0).all()
    n_trials = len(cli.datamodule.subsets["eval"])
    assert n_trials > 0
    assert shapes == {
        "trial_id": (n_trials,),
        "eval_rates_heldin": (n_trials, bins, 18),
        "eval_rates_heldout": (n_trials, bins, 6),
        "eval_rates_heldin_forward": (n_trials, forward, 18),
        "eval_rates_heldout_forward": (n_trials, forward, 6),
    }


@pytest.mark.parametrize("name", ["simulated_baseline", "dmfc_rsg_baseline", "area2_bump_teacher"])
def test_any_experiment_runs_on_the_recording(name: str, data: list[str], tmp_path: Path) -> None:
    arguments = ["--config", experiment(name), "--config", OWN, *data, *TINY, "--trainer.max_epochs=1"]
    run = call("fit", *arguments, f"--output={tmp_path}").run_dir
    results = json.loads((run / "results.json").read_text())
    assert (results["name"], results["session"], results["oracle"]) == (f"{name}_own_session", "own_session", None)
    assert not (Path(results["config"]["data"]["init_args"]["root"]) / "simulated").exists()


def test_data_file_of_inspect_trains(tmp_path: Path) -> None:
    out = tmp_path / "inspected.yaml"
    inspect_file(str(write_own(tmp_path / "rat 3.nwb")), str(out))
    arguments = ["--config", experiment("area2_bump_teacher"), "--config", out, *TINY, "--trainer.max_epochs=1"]
    results = json.loads(
        (call("fit", *arguments, f"--output={tmp_path / 'runs'}").run_dir / "results.json").read_text()
    )
    assert results["session"] == "rat_3"
    assert results["scores"].keys() == {"co_bps", "vel_r2", "fp_bps"}
    assert all(np.isfinite(score) for score in results["scores"].values())
