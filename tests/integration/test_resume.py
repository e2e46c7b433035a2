"""A run that was killed and resumed ends where an uninterrupted one does, bit by bit."""

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


def kill(mark: Path, epoch: int, how: str) -> list[str]:
    """Arguments that end training after the third of an epoch's six batches, the first time."""
    settings = {"epoch": epoch, "batch": 2, "how": how, "mark": mark}
    return ["--trainer.callbacks+=helpers.kill.Kill", *(f"--trainer.callbacks.{k}={v}" for k, v in settings.items())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def arguments(folder: Path) -> list[str]:
    """A student of layer outputs, whose projectors, alpha and learning rate all have a state to come back to."""
    data = [f"--data.root={folder / 'data'}", *SIMULATION]
    teacher = fit("simulated_teacher", folder / "runs", *data, "--trainer.max_epochs=1")
    config = ["--config", str(experiment("simulated_feature")), *TINY, *data]
    return [*config, f"--trainer.max_epochs={EPOCHS}", "--data.batch_size=3", RAMP, f"--distillation.teacher={teacher}"]


def expect_equal(first: Path, second: Path) -> None:
    """The last checkpoints of two runs hold the same training: weights, optimiser, schedule, early stopping."""
    one, other = checkpoint(first, "last.ckpt"), checkpoint(second, "last.ckpt")
    assert differing(one["state_dict"], other["state_dict"]) == []
    for mine, yours in zip(one["optimizer_states"], other["optimizer_states"], strict=True):
        assert mine["state"].keys() == yours["state"].keys()
        assert all(differing(mine["state"][k], yours["state"][k]) == [] for k in mine["state"])
    assert one["lr_schedulers"] == other["lr_schedulers"]
    (stopping,) = (name for name in one["callbacks"] if "EarlyStopping" in name)
    assert str(one["callbacks"][stopping]) == str(other["callbacks"][stopping])
    assert (one["epoch"], one["global_step"]) == (other["epoch"], other["global_step"])


@pytest.fixture(scope="module")
def whole(arguments: list[str], folder: Path) -> Path:
    """A run that nothing happened to."""
    return call("fit", *arguments, f"--run_dir={folder / 'whole'}").run_dir


@pytest.fixture(scope="module")
def rare(arguments: list[str]) -> list[str]:
    return [*arguments, "--trainer.check_val_every_n_epoch=2"]


@pytest.fixture(scope="module")
def whole_rare(rare: list[str], folder: Path) -> Path:
    """The same with rarer validations."""
    return call("fit", *rare, f"--run_dir={folder / 'whole_rare'}").run_dir


def test_sigkill_in_mid_epoch(arguments: list[str], whole: Path, folder: Path) -> None:
    killed = folder / "killed"
    dying = kill(folder / "sigkill", EPOCHS - 2, "SIGKILL")
    process = start("fit", *arguments, f"--run_dir={killed}", *dying, PYTHONPATH=str(TESTS))
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "results.json").exists()
    assert checkpoint(killed, "last.ckpt")["epoch"] == EPOCHS - 3
    call("fit", *arguments, f"--ckpt_path={killed / 'checkpoints' / 'last.ckpt'}")
    assert (killed / "results.json").exists()
    expect_equal(whole, killed)
    names = checkpoint(killed, "last.ckpt")["state_dict"]
    assert any(name.startswith("objective.loss.projectors") for name in names)


def test_interrupted_between_validations(rare: list[str], whole_rare: Path, folder: Path) -> None:
    broken = folder / "interrupted"
    with pytest.raises(Interrupted):
        call("fit", *rare, f"--run_dir={broken}", *kill(folder / "raised", EPOCHS - 1, "raise"))
    assert checkpoint(broken, "last.ckpt")["epoch"] == EPOCHS - 3
    call("fit", *rare, f"--ckpt_path={broken / 'checkpoints' / 'last.ckpt'}")
    expect_equal(whole_rare, broken)


@pytest.mark.parametrize(
    ("how", "epoch"), [("SIGTERM", 0), *(pytest.param("SIGUSR1", e, marks=pytest.mark.slow) for e in range(EPOCHS))]
)
def test_a_signal_and_the_same_command_again(
    how: str, epoch: int, rare: list[str], whole_rare: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training ends with the epoch, validated or not, and goes on from there."""
    before = [signal.getsignal(number) for number in TERMINATION_SIGNALS]
    command = ["fit", *rare, *kill(folder / f"{how}{epoch}", epoch, how), "--resume=true"]
    command.append(f"--output={folder / f'{how}{epoch}-runs'}")
    with pytest.raises(TrainingInterrupted, match="--resume true goes on") as raised:
        call(*command)
    (run,) = (folder / f"{how}{epoch}-runs").glob("simulated_feature/seed0-*")
    assert str(run) in str(raised.value)
    assert checkpoint(run, "last.ckpt")["epoch"] == epoch
    assert not (run / "results.json").exists()
    assert [signal.getsignal(number) for number in TERMINATION_SIGNALS] == before
    assert call(*command).run_dir == run
    expect_equal(whole_rare, run)
    results = (run / "results.json").read_bytes()
    assert call(*command).run_dir == run
    assert (run / "results.json").read_bytes() == results
    assert f"{run} has finished" in capsys.readouterr().out


def test_to_go_on_with_other_settings_is_refused(arguments: list[str], whole: Path) -> None:
    other = ["--trainer.max_epochs=9", f"--run_dir={whole}", "--resume=true"]
    with pytest.raises(ConfigError, match=r"whole is a run with other settings; .* another --run_dir$"):
        call("fit", *arguments, *other)


def test_a_signal_while_it_is_scored(arguments: list[str], whole: Path, folder: Path) -> None:
    dying = ["--trainer.callbacks+=helpers.kill.KillScoring", f"--trainer.callbacks.mark={folder / 'scored'}"]
    command = ["fit", *arguments, *dying, f"--run_dir={folder / 'scoring'}", "--resume=true"]
    with pytest.raises(TrainingInterrupted, match="--resume true"):
        call(*command)
    assert not (folder / "scoring" / "results.json").exists()
    assert (call(*command).run_dir / "results.json").exists()
    expect_equal(whole, folder / "scoring")


def test_settings_of_a_run_make_another(arguments: list[str], whole: Path, folder: Path) -> None:
    """What a run leaves names no place to write to: used again, it spares the run that it is of."""
    before = sha256(whole / "checkpoints" / "best.ckpt")
    config = ["--config", str(whole / "config.yaml"), "--seed_everything=5", f"--output={folder / 'others'}"]
    other = call("fit", *config, "--trainer.max_epochs=1").run_dir
    assert other.parent.parent == folder / "others"
    assert sha256(whole / "checkpoints" / "best.ckpt") == before


def test_no_results_beside_other_weights(arguments: list[str], whole: Path, folder: Path) -> None:
    again = shutil.copytree(whole, folder / "again")
    with pytest.raises(Interrupted):
        call("fit", *arguments, f"--run_dir={again}", *kill(folder / "once", 1, "raise"))
    assert not (again / "results.json").exists()


def test_two_processes_never_write_one_run(arguments: list[str], tmp_path: Path) -> None:
    held = lock_run(tmp_path)
    with pytest.raises(ConfigError, match="another process is training"):
        call("fit", *arguments, f"--run_dir={tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    held.release()


@pytest.mark.slow
def test_a_run_that_was_stopped_early_does_not_train_on(arguments: list[str], folder: Path) -> None:
    early = [*arguments, "--early_stopping.patience=1", "--early_stopping.min_delta=100", "--resume=true"]
    run = call("fit", *early, f"--output={folder / 'early'}").run_dir
    before = checkpoint(run, "last.ckpt")
    assert before["epoch"] < EPOCHS - 1
    (run / "results.json").unlink()
    assert call("fit", *early, f"--output={folder / 'early'}").run_dir == run
    assert checkpoint(run, "last.ckpt")["global_step"] == before["global_step"]
    assert (run / "results.json").exists()


def test_a_checkpoint_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def cut_short(checkpoint: object, file: BinaryIO) -> None:
        file.write(b"PK")
        raise Interrupted

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(Interrupted):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]
