import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from helpers.sessions import tiny_module
from helpers.systems import make, save, trainer

from blend_pl.callbacks import Multitask
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.errors import ConfigError
from blend_pl.systems import Student
from blend_pl.systems.checkpoint import load_system


class Record(L.Callback):
    def __init__(self) -> None:
        self.errors: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.errors.append(trainer.callback_metrics["train/decoding"].item())


def train(module: NLBDataModule, folder: Path, *callbacks: L.Callback, epochs: int = 12) -> Student:
    L.seed_everything(1)
    student = make(optimizer=partial(torch.optim.AdamW, lr=5e-3))
    trainer(folder, epochs, *callbacks).fit(student, datamodule=copy.copy(module))
    return student


def test_decoding_error_decreases_and_changes_the_student(tiny: NLBDataModule, tmp_path: Path) -> None:
    record = Record()
    student = train(tiny, tmp_path, Multitask(1.0), record)
    assert sum(record.errors[-3:]) < 0.8 * sum(record.errors[:3])
    baseline = train(tiny, tmp_path, Multitask(0.0), Record())
    pairs = zip(student.backbone.parameters(), baseline.backbone.parameters(), strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) > 1e-2


def test_checkpoint_is_a_student_without_decoding_head(tiny: NLBDataModule, tmp_path: Path) -> None:
    student = train(tiny, tmp_path, Multitask(), epochs=1)
    loaded = load_system(save(student, tmp_path / "student.ckpt"))
    assert type(loaded) is Student
    batch = next(iter(tiny.predict_dataloader()))
    hidden = replace(batch, privileged=torch.full_like(batch.privileged, torch.nan))
    assert torch.equal(loaded.predict_step(batch, 0), student.eval().predict_step(hidden, 0))


def test_session_without_behavior_raises(tiny_root: Path, tmp_path: Path) -> None:
    module = tiny_module(tiny_root)
    module.spec = replace(module.spec, behavior=None)
    module.subsets = {}
    with pytest.raises(ConfigError, match="needs behavior to decode"):
        train(module, tmp_path, Multitask(), epochs=1)
