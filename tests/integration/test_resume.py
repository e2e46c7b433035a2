"""A run that was killed and resumed gives the same bits as an uninterrupted one."""

import shutil
import signal
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from helpers.cli import SIMULATION, TINY, call, checkpoint, differing, experiment, fit, start
from helpers.kill import Interrupted

from blend_pl.errors import ConfigError, TrainingInterrupted
from blend_pl.runs.folder import lock_run
from blend_pl.systems.checkpoint import AtomicCheckpointIO
from blend_pl.utils.files import sha256
from blend_pl.utils.signals import TERMINATION_SIGNALS

EPOCHS = 4
RAMP = "--distillation.alpha={start: 1.0, stop: 0.2, start_fraction: 0.1, end_fraction: 0.9}"
TESTS = Path(__file__).parents[1]


def kill_at(mark: Path, epoch: int, how: str) -> list[str]:
    """Returns arguments that end the first training after the third of an epoch's six batches."""
    settings = {"epoch": epoch, "batch": 2, "how": how, "mark": mark}
    return ["--trainer.callbacks+=helpers.kill.Kill", *(f"--trainer.callbacks.{k}={v}" for k, v in settings.items())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def arguments(folder: Path) -> list[str]:
    """Arguments of a student with state to restore in projectors, alpha and learning rate."""
    data = [f"--data.root={folder / 'data'}", *SIMULATION]
    teacher = fit("simulated_teacher", folder / "runs", *data, "--trainer.max_epochs=1")
    config = ["--config", str(experiment("simulated_feature")), *TINY, *data]
    return [*config, f"--trainer.max_epochs={EPOCHS}", "--data.batch_size=3", RAMP, f"--distillation.teacher={teacher}"]


def expect_equal(first: Path, second: Path) -> None:
    """Checks that the last checkpoints hold equal weights and states of optimizer, schedule and early stopping."""
    one, other = checkpoint(first, "last.ckpt"), checkpoint(second, "last.ckpt")
    assert differing(one["state_dict"], other["state_dict"]) == []
    for state, other_state in zip(one["optimizer_states"], other["optimizer_states"], strict=True):
        assert state["state"].keys() == other_state["state"].keys()
        assert all(differing(state["state"][k], other_state["state"][k]) == [] for k in state["state"])
    assert one["lr_schedulers"] == other["lr_schedulers"]
    (stopping,) = (name for name in one["callbacks"] if "EarlyStopping" in name)
    assert str(one["callbacks"][stopping]) == str(other["callbacks"][stopping])
    assert (one["epoch"], one["global_step"]) == (other["epoch"], other["global_step"])


@pytest.fixture(scope="module")
def uninterrupted(arguments: list[str], folder: Path) -> Path:
    """An uninterrupted run."""
    return call("fit", *arguments, f"--run_dir={folder / 'uninterrupted'}").run_dir


@pytest.fixture(scope="module")
def rare(arguments: list[str]) -> list[str]:
    return [*arguments, "--trainer.check_val_every_n_epoch=2"]


@pytest.fixture(scope="module")
def uninterrupted_rare(rare: list[str], folder: Path) -> Path:
    """An uninterrupted run with a validation every second epoch."""
    return call("fit", *rare, f"--run_dir={folder / 'uninterrupted_rare'}").run_dir


def test_run_killed_in_mid_epoch_resumes_to_equal_results(
    arguments: list[str], uninterrupted: Path, folder: Path
) -> None:
    killed = folder / "killed"
    kill = kill_at(folder / "sigkill", EPOCHS - 2, "SIGKILL")
    process = start("fit", *arguments, f"--run_dir={killed}", *kill, PYTHONPATH=str(TESTS))
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "results.json").exists()
    assert checkpoint(killed, "last.ckpt")["epoch"] == EPOCHS - 3
    call("fit", *arguments, f"--ckpt_path={killed / 'checkpoints' / 'last.ckpt'}")
    assert (killed / "results.json").exists()
    expect_equal(uninterrupted, killed)
    names = checkpoint(killed, "last.ckpt")["state_dict"]
    assert any(name.startswith("objective.loss.projectors") for name in names)


def test_run_interrupted_between_validations_resumes_to_equal_results(
    rare: list[str], uninterrupted_rare: Path, folder: Path
) -> None:
    run = folder / "interrupted"
    with pytest.raises(Interrupted):
        call("fit", *rare, f"--run_dir={run}", *kill_at(folder / "raised", EPOCHS - 1, "raise"))
    assert checkpoint(run, "last.ckpt")["epoch"] == EPOCHS - 3
    call("fit", *rare, f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}")
    expect_equal(uninterrupted_rare, run)


@pytest.mark.parametrize(
    ("how", "epoch"), [("SIGTERM", 0), *(pytest.param("SIGUSR1", e, marks=pytest.mark.slow) for e in range(EPOCHS))]
)
def test_same_command_resumes_after_a_signal(
    how: str, epoch: int, rare: list[str], uninterrupted_rare: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training ends at the end of the epoch, with or without validation, and resumes from there."""
    before = [signal.getsignal(number) for number in TERMINATION_SIGNALS]
    command = ["fit", *rare, *kill_at(folder / f"{how}{epoch}", epoch, how), "--resume=true"]
    command.append(f"--output={folder / f'{how}{epoch}-runs'}")
    with pytest.raises(TrainingInterrupted, match="continue it with the same command and --resume true") as raised:
        call(*command)
    (run,) = (folder / f"{how}{epoch}-runs").glob("simulated_feature/seed0-*")
    assert str(run) in str(raised.value)
    assert checkpoint(run, "last.ckpt")["epoch"] == epoch
    assert not (run / "results.json").exists()
    assert [signal.getsignal(number) for number in TERMINATION_SIGNALS] == before
    assert call(*command).run_dir == run
    expect_equal(uninterrupted_rare, run)
    results = (run / "results.json").read_bytes()
    assert call(*command).run_dir == run
    assert (run / "results.json").read_bytes() == results
    assert f"{run} has finished" in capsys.readouterr().out


def test_resuming_with_other_settings_is_refused(arguments: list[str], uninterrupted: Path) -> None:
    other = ["--trainer.max_epochs=9", f"--run_dir={uninterrupted}", "--resume=true"]
    with pytest.raises(ConfigError, match=r"uninterrupted is a run with other settings; .* another --run_dir$"):
        call("fit", *arguments, *other)


def test_same_command_resumes_after_a_signal_during_evaluation(
    arguments: list[str], uninterrupted: Path, folder: Path
) -> None:
    kill = ["--trainer.callbacks+=helpers.kill.KillScoring", f"--trainer.callbacks.mark={folder / 'scored'}"]
    command = ["fit", *arguments, *kill, f"--run_dir={folder / 'scoring'}", "--resume=true"]
    with pytest.raises(TrainingInterrupted, match="--resume true"):
        call(*command)
    assert not (folder / "scoring" / "results.json").exists()
    assert (call(*command).run_dir / "results.json").exists()
    expect_equal(uninterrupted, folder / "scoring")


def test_fit_from_the_config_of_a_run_creates_another_run(
    arguments: list[str], uninterrupted: Path, folder: Path
) -> None:
    """The saved config contains no output folder, so that the first run is not overwritten."""
    before = sha256(uninterrupted / "checkpoints" / "best.ckpt")
    config = ["--config", str(uninterrupted / "config.yaml"), "--seed_everything=5", f"--output={folder / 'others'}"]
    other = call("fit", *config, "--trainer.max_epochs=1").run_dir
    assert other.parent.parent == folder / "others"
    assert sha256(uninterrupted / "checkpoints" / "best.ckpt") == before


def test_results_are_removed_when_training_starts_again(
    arguments: list[str], uninterrupted: Path, folder: Path
) -> None:
    run = shutil.copytree(uninterrupted, folder / "again")
    with pytest.raises(Interrupted):
        call("fit", *arguments, f"--run_dir={run}", *kill_at(folder / "once", 1, "raise"))
    assert not (run / "results.json").exists()


def test_locked_run_is_refused(arguments: list[str], tmp_path: Path) -> None:
    held = lock_run(tmp_path)
    with pytest.raises(ConfigError, match="another process is training"):
        call("fit", *arguments, f"--run_dir={tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    held.release()


@pytest.mark.slow
def test_run_that_stopped_early_does_not_resume_training(arguments: list[str], folder: Path) -> None:
    early = [*arguments, "--early_stopping.patience=1", "--early_stopping.min_delta=100", "--resume=true"]
    run = call("fit", *early, f"--output={folder / 'early'}").run_dir
    before = checkpoint(run, "last.ckpt")
    assert before["epoch"] < EPOCHS - 1
    (run / "results.json").unlink()
    assert call("fit", *early, f"--output={folder / 'early'}").run_dir == run
    assert checkpoint(run, "last.ckpt")["global_step"] == before["global_step"]
    assert (run / "results.json").exists()


def test_interrupted_save_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def write_partially(checkpoint: object, file: BinaryIO) -> None:
        file.write(b"PK")
        raise Interrupted

    monkeypatch.setattr(torch, "save", write_partially)
    with pytest.raises(Interrupted):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]
