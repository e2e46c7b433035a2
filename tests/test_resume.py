"""A run that was killed and resumed ends where an uninterrupted one does, bit by bit."""

import signal
from pathlib import Path

import pytest
import torch
from helpers.cli import SIMULATION, TINY, call, checkpoint, differing, experiment, fit, start
from helpers.kill import Interrupted

from blend_pl.systems.checkpoint import WholeCheckpoints

EPOCHS = 4
RAMP = "--distillation.alpha={start: 1.0, stop: 0.2, begin: 0.1, end: 0.9}"
TESTS = Path(__file__).parent


def kill(epoch: int, hard: bool) -> list[str]:
    """Arguments that end training after the third of an epoch's six batches."""
    settings = {"epoch": epoch, "batch": 2, "hard": str(hard).lower()}
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


def test_sigkill_in_mid_epoch(arguments: list[str], folder: Path) -> None:
    whole = call("fit", *arguments, f"--run_dir={folder / 'whole'}").run
    killed = folder / "killed"
    process = start("fit", *arguments, f"--run_dir={killed}", *kill(EPOCHS - 2, hard=True), PYTHONPATH=str(TESTS))
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "results.json").exists()
    assert checkpoint(killed, "last.ckpt")["epoch"] == EPOCHS - 3
    call("fit", *arguments, f"--ckpt_path={killed / 'checkpoints' / 'last.ckpt'}")
    assert (killed / "results.json").exists()
    expect_equal(whole, killed)
    names = checkpoint(killed, "last.ckpt")["state_dict"]
    assert any(name.startswith("objective.loss.projectors") for name in names)


def test_interrupted_between_validations(arguments: list[str], folder: Path) -> None:
    rare = [*arguments, "--trainer.check_val_every_n_epoch=2"]
    whole = call("fit", *rare, f"--run_dir={folder / 'whole_rare'}").run
    broken = folder / "interrupted"
    with pytest.raises(Interrupted):
        call("fit", *rare, f"--run_dir={broken}", *kill(EPOCHS - 1, hard=False))
    assert checkpoint(broken, "last.ckpt")["epoch"] == EPOCHS - 3
    call("fit", *rare, f"--ckpt_path={broken / 'checkpoints' / 'last.ckpt'}")
    expect_equal(whole, broken)


def test_a_checkpoint_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"epoch": 1}, path)

    def cut_short(checkpoint: object, file: Path) -> None:
        file.write_bytes(b"PK")
        raise Interrupted

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(Interrupted):
        WholeCheckpoints().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]
