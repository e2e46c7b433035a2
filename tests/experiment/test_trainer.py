"""The trainer of an experiment."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO

from blend_pl.experiment.trainer import make_trainer
from blend_pl.systems.checkpoint import AtomicCheckpointIO

SLURM = ("NTASKS", "PROCID", "LOCALID", "NODEID", "JOB_ID")


def make(has_unused_parameters: bool = False, **settings: Any) -> Any:
    defaults = {"callbacks": None, "plugins": None, "strategy": "auto", "num_nodes": 1, "accelerator": "cpu"}
    defaults |= {"enable_progress_bar": None, "enable_model_summary": None, "barebones": False}
    config: Any = SimpleNamespace(
        name="experiment",
        trainer={**defaults, "devices": "auto", "logger": False, **settings},
        checkpoint=ModelCheckpoint(),
        early_stopping=EarlyStopping("val/loss"),
        pretrained=None,
        distillation=None,
        multitask=None,
    )
    model: Any = SimpleNamespace(has_unused_parameters=has_unused_parameters)
    return make_trainer(config, model, Path("run"))


@pytest.mark.parametrize(
    ("settings", "searches"),
    [
        ({}, None),
        ({"devices": 2}, True),
        ({"devices": "2", "strategy": "ddp"}, True),
        ({"num_nodes": 2}, True),
        ({"devices": 2, "strategy": "ddp_find_unused_parameters_false"}, False),
    ],
)
def test_ddp_searches_for_unused_parameters(settings: dict[str, Any], searches: bool | None) -> None:
    options = getattr(make(has_unused_parameters=True, **settings).strategy, "_ddp_kwargs", {})
    assert options.get("find_unused_parameters") == searches


def test_ddp_does_not_search_by_default() -> None:
    assert not make(devices=2).strategy._ddp_kwargs


def test_checkpoints_are_atomic_unless_a_plugin_writes_them() -> None:
    plugin = TorchCheckpointIO()
    assert isinstance(make().strategy.checkpoint_io, AtomicCheckpointIO)
    assert make(plugins=[plugin]).strategy.checkpoint_io is plugin
    assert make(plugins=plugin).strategy.checkpoint_io is plugin


def test_slurm_jobs_are_not_requeued_by_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLURM:
        monkeypatch.setenv(f"SLURM_{name}", "1" if name == "NTASKS" else "0")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    environment = make()._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue
