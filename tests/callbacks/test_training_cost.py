from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from helpers.systems import make, trainer

from blend_pl.callbacks import Multitask, TrainingCost
from blend_pl.data.nlb.module import NLBDataModule


def test_cost_is_measured(tiny: NLBDataModule, tmp_path: Path) -> None:
    L.seed_everything(0)
    costs = []
    for extra in ([], [Multitask()]):
        cost, student = TrainingCost(), make()
        fitting = trainer(tmp_path, 2, cost, *extra)
        fitting.fit(student, datamodule=tiny)
        summary = cost.summary()
        assert summary is not None
        costs.append(summary)
        assert len(cost.step_seconds) == fitting.global_step
        assert costs[-1]["parameters"] == sum(p.numel() for p in student.backbone.parameters())
        assert 0 < costs[-1]["seconds_per_step"] < 10
        assert 50e6 < costs[-1]["peak_bytes"] < 50e9
    assert costs[0]["parameters"] == costs[1]["parameters"]


def test_training_without_steps_has_no_cost(tiny: NLBDataModule, tmp_path: Path) -> None:
    cost = TrainingCost()
    trainer(tmp_path, 0, cost).fit(make(), datamodule=tiny)
    assert cost.summary() is None


def test_steps_on_a_gpu_are_measured_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        """A CUDA event that is reached half a second after the previous one."""

        n_events = n_reached = 0

        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            self.position = Event.n_events = Event.n_events + 1

        def record(self, stream: str) -> None:
            assert stream == "stream of cuda:1"

        def query(self) -> bool:
            return self.position <= Event.n_reached

        def elapsed_time(self, later: Any) -> float:
            return 500.0 * (later.position - self.position)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    system, cost = SimpleNamespace(device=torch.device("cuda", 1)), TrainingCost()
    for _ in range(3):
        cost.on_train_batch_start(None, system)
        cost.on_train_batch_end(None, system)
    for Event.n_reached, n_steps in ((3, 1), (4, 2), (6, 3)):
        cost.on_train_epoch_end(None, system)
        assert cost.step_seconds == [0.5] * n_steps
