"""The line of progress of a training."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from rich.console import Console
from torch.utils.data import DataLoader, TensorDataset

from blend_pl.callbacks.progress import TrainingProgress, completed_fraction, format_duration


class Regression(L.LightningModule):
    """A linear model with two parameters, whose score is the number of epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.linear(batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score", float(min(self.current_epoch, 3)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(
    tmp_path: Path, *callbacks: L.Callback, terminal: bool = False, ckpt_path: str | None = None, **settings: Any
) -> tuple[str, L.Trainer]:
    """Trains on 4 batches an epoch and returns what was printed, and the trainer."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100, soft_wrap=True, highlight=False)
    trainer = L.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[
            TrainingProgress("run", console=console),
            ModelCheckpoint(tmp_path, monitor="score", mode="max", save_last=True),
            *callbacks,
        ],
        **settings,
    )
    loader = DataLoader(TensorDataset(torch.zeros(4, 1)))
    trainer.fit(Regression(), loader, loader, ckpt_path=ckpt_path)
    return output.getvalue(), trainer


def test_lines_have_share_of_training_time_left_and_scores(tmp_path: Path) -> None:
    printed, _ = fit(tmp_path, max_epochs=20)
    lines = printed.splitlines()
    assert lines[0] == "run: training 2 parameters on cpu"
    assert [line.split("%")[0].split()[-1] for line in lines[1:-1]] == [str(p) for p in range(10, 100, 10)]
    assert all(" left, epoch " in line and line.endswith("score 3.0000 (best 3.0000)") for line in lines[2:-1])
    assert lines[1].endswith("epoch 2/20, score 1.0000 (best 1.0000)")
    assert lines[-1].startswith("run: trained in 0:0")
    assert lines[-1].endswith("20 epochs, score 3.0000 (best 3.0000)")


def test_number_of_lines_does_not_grow_with_the_epochs(tmp_path: Path) -> None:
    printed, _ = fit(tmp_path, max_epochs=60, check_val_every_n_epoch=60)
    assert len(printed.splitlines()) == 11


@pytest.mark.parametrize(
    ("settings", "fraction"),
    [
        ({"max_steps": 8}, 1.0),
        ({"max_epochs": 10, "max_steps": 8}, 1.0),
        ({"max_epochs": 4, "accumulate_grad_batches": 2}, 1.0),
        ({"max_epochs": 4, "limit_train_batches": 2}, 1.0),
    ],
)
def test_share_counts_up_to_the_nearest_limit(tmp_path: Path, settings: dict[str, Any], fraction: float) -> None:
    printed, trainer = fit(tmp_path, **settings)
    assert completed_fraction(trainer) == fraction
    assert printed.splitlines()[-1].startswith("run: trained in")


def test_max_time_is_a_limit(tmp_path: Path) -> None:
    _, trainer = fit(tmp_path, Timer(timedelta(hours=1)), max_epochs=1000, limit_train_batches=1, max_steps=2)
    assert completed_fraction(trainer) == 1.0
    _, trainer = fit(tmp_path, Timer(timedelta(seconds=0.2)), max_epochs=10**6)
    assert completed_fraction(trainer) == 1.0


def test_early_stop_is_told(tmp_path: Path) -> None:
    printed, _ = fit(tmp_path, EarlyStopping("score", mode="max", patience=2), max_epochs=60)
    assert printed.splitlines()[-1].startswith("run: stopped at 10% in 0:0")
    assert "6 epochs" in printed.splitlines()[-1]


def test_resumed_training_continues_at_its_share(tmp_path: Path) -> None:
    _, trainer = fit(tmp_path, max_epochs=5)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    printed, _ = fit(tmp_path, max_epochs=10, ckpt_path=str(tmp_path / "end.ckpt"))
    lines = printed.splitlines()
    assert lines[0] == "run: training 2 parameters on cpu, resumed at 50%"
    assert lines[1].startswith("run:  60%, ")


def test_terminal_line_is_updated_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingProgress, "REFRESH_S", 0.0)
    printed, _ = fit(tmp_path, terminal=True, max_epochs=3)
    assert "run:  33%, " in printed
    first, *updates, last = printed.replace("\r\x1b[2K", "\n").splitlines()
    assert first == "run: training 2 parameters on cpu"
    assert len(updates) >= 12
    # The last update is erased.
    assert last.split("\x1b[1A\x1b[2K")[-1].startswith("run: trained in")


def test_other_ranks_print_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(L.Trainer, "is_global_zero", property(lambda _: False))
    printed, _ = fit(tmp_path, max_epochs=2)
    assert printed == ""


def test_exception_ends_the_live_line(tmp_path: Path) -> None:
    class Failing(L.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            raise RuntimeError("stop")

    progress = TrainingProgress(console=Console(file=io.StringIO(), force_terminal=True))
    with pytest.raises(RuntimeError, match="stop"):
        fit(tmp_path, Failing(), terminal=True, max_epochs=2)
    assert progress._live is None


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (725, "12:05"), (3600, "1:00:00")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
