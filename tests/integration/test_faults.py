"""User errors end a command with exit status 2 and one line that names the fix."""

import errno
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers.cli import TINY, experiment, fit, start
from helpers.nwb_files import write_maze, write_rtt

from blend_pl.__main__ import main
from blend_pl.models import NDT

RunFailing = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    write_maze(folder / "maze")
    return folder


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Path:
    return fit("mc_maze_teacher", folder / "runs", f"--data.root={folder / 'maze'}", "--trainer.max_epochs=1")


@pytest.fixture
def command_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunFailing:
    """Runs a command that must fail and returns its error line."""

    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["blend_pl", *map(str, arguments)])
        capsys.readouterr()
        assert main() == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        (line,) = [line for line in error.splitlines() if line.startswith("blend_pl:")]
        assert error.endswith(line + "\n"), "output follows the error line"
        return line

    return run


@pytest.fixture
def fit_error(command_error: RunFailing, tmp_path: Path) -> RunFailing:
    """Fits an experiment that must fail and returns its error line."""
    return lambda name, root, *arguments: command_error(
        *("fit", "--config", experiment(name), *TINY, f"--output={tmp_path / 'runs'}", f"--data.root={root}"),
        *arguments,
    )


@pytest.fixture
def train_file(folder: Path, tmp_path: Path) -> Path:
    """A copy of the training file that the test may modify."""
    (source,) = (folder / "maze").glob("**/*desc-train*.nwb")
    return shutil.copy(source, tmp_path / source.name)


def test_truncated_file_raises(train_file: Path, fit_error: RunFailing) -> None:
    with train_file.open("r+b") as file:
        file.truncate(train_file.stat().st_size // 2)
    line = fit_error("mc_maze_baseline", train_file.parent)
    assert str(train_file) in line
    assert "fetch it again" in line


def test_missing_heldout_column_raises(train_file: Path, fit_error: RunFailing) -> None:
    with h5py.File(train_file, "a") as file:
        del file["units/heldout"]
    line = fit_error("mc_maze_baseline", train_file.parent)
    assert "no column 'heldout'" in line
    assert "held_out.fraction" in line


@pytest.mark.parametrize("arm", ["teacher", "baseline"])
def test_missing_behavior_raises(train_file: Path, fit_error: RunFailing, arm: str) -> None:
    with h5py.File(train_file, "a") as file:
        del file["processing/behavior/hand_vel"]
    line = fit_error(f"mc_maze_{arm}", train_file.parent)
    assert "no time series 'hand_vel'" in line
    assert "behavior.series" in line
    assert "hand_pos" in line


def test_all_nan_behavior_raises(train_file: Path, fit_error: RunFailing) -> None:
    with h5py.File(train_file, "a") as file:
        file["processing/behavior/hand_vel/data"][...] = np.nan
    line = fit_error("mc_maze_teacher", train_file.parent)
    assert "hand_vel has no value" in line
    assert "behavior.series" in line


def test_teacher_without_behavior_raises(folder: Path, tmp_path: Path, fit_error: RunFailing) -> None:
    (tmp_path / "more.yaml").write_text("data: {init_args: {spec: {behavior: null}}}")
    line = fit_error("mc_maze_teacher", folder / "maze", "--config", tmp_path / "more.yaml")
    assert "a teacher needs behavior" in line
    assert "data.spec.behavior" in line


def test_wrong_data_set_raises(folder: Path, fit_error: RunFailing) -> None:
    line = fit_error("mc_rtt_baseline", folder / "maze", "--data.spec.files.train=*desc-train*.nwb")
    assert "no time series 'finger_vel'" in line
    assert "hand_vel" in line


def test_missing_file_raises(tmp_path: Path, fit_error: RunFailing) -> None:
    (tmp_path / "more.yaml").write_text("data: {init_args: {spec: {archive: null}}}")
    line = fit_error("mc_maze_baseline", tmp_path, "--config", tmp_path / "more.yaml")
    assert f"in {tmp_path}" in line
    assert "--data.root" in line


def test_unwritable_cache_raises(folder: Path, tmp_path: Path, fit_error: RunFailing) -> None:
    (tmp_path / "cache").touch()
    line = fit_error("mc_maze_baseline", folder / "maze", f"--data.cache_dir={tmp_path / 'cache'}")
    assert f"cannot write {tmp_path / 'cache'}" in line
    assert "--data.cache_dir" in line


def test_output_that_is_a_file_raises(folder: Path, tmp_path: Path, fit_error: RunFailing) -> None:
    (tmp_path / "runs").touch()
    assert f"cannot write {tmp_path / 'runs'}" in fit_error("mc_maze_baseline", folder / "maze")


@pytest.mark.parametrize(("max_bytes", "file"), [(1000, "config.yaml"), (30_000, "best.ckpt")])
def test_file_size_limit_is_reported(
    folder: Path, teacher: Path, tmp_path: Path, fit_error: RunFailing, max_bytes: int, file: str
) -> None:
    """The binned recording is cached, so only writes of the run fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        line = fit_error("mc_maze_teacher", folder / "maze", "--trainer.max_epochs=1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert re.search(rf"cannot write {tmp_path}/runs/.*/{file}: File too large; free space there", line)
    remaining_files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert remaining_files <= {".lock", "config.yaml", "metrics.csv"} - {file}


@pytest.mark.parametrize("filename", [None, "metrics.csv"])
def test_enospc_in_library_is_reported(
    command_error: RunFailing, monkeypatch: pytest.MonkeyPatch, filename: str
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filename)

    monkeypatch.setattr("blend_pl.__main__.run_command", fail)
    line = command_error("fit")
    assert line.startswith(f"blend_pl: cannot write {filename or 'a file of this run'}: No space left on device")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc exists only on Linux")
def test_unwritable_output_raises(folder: Path, command_error: RunFailing) -> None:
    arguments = ["--config", experiment("mc_maze_baseline"), f"--data.root={folder / 'maze'}", "--output=/proc/runs"]
    assert "cannot write /proc/runs" in command_error("fit", *arguments)


def test_teacher_with_different_units_raises(
    folder: Path, teacher: Path, tmp_path: Path, fit_error: RunFailing
) -> None:
    write_maze(tmp_path, shuffled_ids=True)
    line = fit_error("mc_maze_hard", tmp_path, f"--distillation.teacher={teacher}")
    assert "other units" in line
    assert "train a teacher on the student's session" in line


def test_teacher_of_different_session_raises(tmp_path: Path, teacher: Path, fit_error: RunFailing) -> None:
    write_rtt(tmp_path)
    line = fit_error("mc_rtt_hard", tmp_path, f"--distillation.teacher={teacher}")
    assert "was trained on mc_maze (18 of 24 units held in, 35 + 10 bins of 20 ms" in line
    assert "data are mc_rtt (18 of 24 units held in, 30 + 10 bins of 20 ms" in line


def test_teacher_with_different_bins_raises(folder: Path, teacher: Path, fit_error: RunFailing) -> None:
    line = fit_error("mc_maze_hard", folder / "maze", f"--distillation.teacher={teacher}", "--data.bin_ms=10")
    assert "35 + 10 bins of 20 ms" in line
    assert "70 + 20 bins of 10 ms" in line


@pytest.mark.parametrize("kind", ["missing", "truncated", "text", "other_package"])
def test_unreadable_teacher_raises(
    folder: Path, teacher: Path, tmp_path: Path, fit_error: RunFailing, kind: str
) -> None:
    path = tmp_path / "teacher.ckpt"
    match kind:
        case "truncated":
            path.write_bytes((teacher / "checkpoints" / "best.ckpt").read_bytes()[:5000])
        case "text":
            path.write_text("hello")
        case "other_package":
            torch.save({"state_dict": {}}, path)
    line = fit_error("mc_maze_hard", folder / "maze", f"--distillation.teacher={path}")
    assert str(path) in line
    expected_messages = {
        "missing": "train that model first",
        "other_package": "is not a checkpoint of a student",
    }
    assert expected_messages.get(kind, "train it again") in line


def test_missing_teacher_experiment_raises(folder: Path, tmp_path: Path, fit_error: RunFailing) -> None:
    line = fit_error("mc_maze_hard", folder / "maze", f"--distillation.teacher={tmp_path / 'none.yaml'}")
    assert "there is no teacher experiment" in line
    assert "distillation.teacher" in line


def test_teacher_predict_without_behavior_raises(teacher: Path, command_error: RunFailing) -> None:
    best = teacher / "checkpoints" / "best.ckpt"
    line = command_error("predict", "--config", teacher / "config.yaml", "--ckpt_path", best, "--data.phase=test")
    assert "a teacher needs behavior" in line
    assert "student" in line


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_damaged_checkpoint_cannot_be_resumed(folder: Path, tmp_path: Path, fit_error: RunFailing, name: str) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "best.ckpt").write_bytes(b"PK\x03\x04")
    line = fit_error("mc_maze_baseline", folder / "maze", f"--ckpt_path={checkpoints / name}")
    assert str(checkpoints / name) in line
    assert re.search("train (that model first|it again)", line)


INVALID_SETTINGS = {
    "val_selection_in_test_phase": (
        ["--data.phase=test", "--data.selection_split=val"],
        "set data.selection_split to train_holdout",
    ),
    "unknown_phase": (["--data.phase=train"], "Expected a typing.Literal['val', 'test']. Got value: train"),
    "unknown_option": (["--data.fase=val"], "Option 'fase' is not accepted"),
    "unknown_backbone": (["--model.backbone=blend_pl.models.Nope"], "no attribute 'Nope'"),
    "masking_ratio_above_one": (["--model.masking.ratio=3"], "masking.ratio must be between 0 and 1"),
    "two_held_out_rules": (["--data.spec.held_out.fraction=0.5"], "set one of held_out.column, held_out.units"),
    "negative_n_train": (["--data.simulation.n_train=-3"], "n_train is -3; it must be at least 1"),
}


@pytest.mark.parametrize("case", INVALID_SETTINGS)
def test_invalid_settings_raise(folder: Path, fit_error: RunFailing, case: str) -> None:
    arguments, expected_message = INVALID_SETTINGS[case]
    assert expected_message in fit_error("mc_maze_baseline", folder / "maze", *arguments)


@pytest.mark.parametrize(
    ("arguments", "expected_message"),
    [
        ([], "COMMAND --help"),
        (["fitt"], "there is no command fitt; choose from fit, "),
        (["fit", "--config", "none.yaml"], "cannot read the config file none.yaml: No such file"),
        (["predict", "--config", experiment("mc_maze_baseline")], "add --ckpt_path RUN/checkpoints/best.ckpt"),
        (["simulate"], "arguments are required: folder"),
    ],
)
def test_invalid_command_lines_raise(command_error: RunFailing, arguments: list[str], expected_message: str) -> None:
    assert expected_message in command_error(*arguments)


def test_error_in_subprocess(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    process = start("fit", "--config", experiment("mc_maze_baseline"), "--config", missing)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert err == f"blend_pl: cannot read the config file {missing}: No such file or directory; check its name\n"


def test_gpu_out_of_memory_is_reported(folder: Path, fit_error: RunFailing, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_oom(*_: object) -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which ..."
        )

    monkeypatch.setattr(NDT, "forward", raise_oom)
    line = fit_error("mc_maze_baseline", folder / "maze")
    assert line.startswith("blend_pl: CUDA out of memory. Tried to allocate 20.00 GiB: ")
    for suggestion in ("data.batch_size", "accumulate_grad_batches", "bf16-mixed", "--resume true"):
        assert suggestion in line


def test_other_cuda_errors_propagate(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(NDT, "forward", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        fit("mc_maze_baseline", tmp_path, f"--data.root={folder / 'maze'}")
