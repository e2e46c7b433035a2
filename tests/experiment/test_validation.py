"""Checks of the settings of an experiment."""

from pathlib import Path

import pytest
from helpers.cli import CONFIGS, EXPERIMENTS

from blend_pl.errors import ConfigError
from blend_pl.experiment import Experiment
from blend_pl.experiment.validation import locate

ARGUMENTS = [str(EXPERIMENTS / "simulated.yaml"), "--config", str(CONFIGS / "arm" / "soft.yaml")]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.batch_size=0", "data.batch_size must be at least 1, not 0"),
        ("data.holdout=2", "data.holdout must be above 0 and below 1, not 2.0"),
        ("model.backbone.dropout=1.2", "model.backbone.dropout must be at least 0 and below 1, not 1.2"),
        ("model.backbone.num_layers=0", "model.backbone.num_layers must be at least 1, not 0"),
        ("model.masking.ratio=1.5", "model.masking.ratio must be between 0 and 1, not 1.5"),
        ("model.schedule.warmup=2", "model.schedule.warmup must be between 0 and 1, not 2.0"),
        ("model.optimizer.lr=-1", "Invalid learning rate: -1.0; change model.optimizer"),
        ("model.optimizer.weight_decay=-1", "Invalid weight_decay value: -1.0; change model.optimizer"),
        ("distillation.alpha=1.5", "distillation.alpha must be between 0 and 1, not 1.5"),
        ("distillation.loss.tau=0", "distillation.loss.tau must be above 0, not 0.0"),
        ("seed_everything=-1", "seed_everything must be between 0 and 4294967295, not -1"),
        ("trainer.max_epochs=0", "trainer.max_epochs must be at least 1, not 0"),
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be at least 1, not 0"),
        ("early_stopping.patience=-1", "early_stopping.patience must be at least 1, not -1"),
        ("trainer.devices=100000", "this machine has"),
        ("trainer.accelerator=gup", "did you mean gpu?"),
        ("trainer.strategy=ddpp", "did you mean ddp?"),
    ],
)
def test_invalid_setting_is_refused_before_a_file_is_written(
    setting: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        Experiment([*ARGUMENTS, "--trainer.accelerator=cpu", f"--{setting}"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not [*tmp_path.iterdir()]


def test_unlimited_epochs_need_another_limit() -> None:
    assert Experiment([*ARGUMENTS, "--trainer.max_epochs=-1", "--trainer.max_steps=10"]).fingerprint


def test_setting_is_located_only_if_it_is_unique() -> None:
    settings = {"a": {"init_args": {"size": 0, "depth": 0}}, "b": {"size": 1, "depth": 0}}
    assert locate("size must be at least 1, not 0", settings) == "a.size must be at least 1, not 0"
    assert locate("depth must be at least 1, not 0", settings) == "depth must be at least 1, not 0"
    assert locate("no range", settings) == "no range"
