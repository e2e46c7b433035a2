"""The trainer of an experiment and its callbacks."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar, TQDMProgressBar
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment

from blend_pl.callbacks import LastCheckpoint, TrainingCost, TrainingProgress
from blend_pl.runs.folder import CHECKPOINT_DIR
from blend_pl.systems import NeuralSystem
from blend_pl.systems.checkpoint import AtomicCheckpointIO

DDP_STRATEGIES = ("ddp", "ddp_spawn", "ddp_fork", "ddp_notebook")


def make_trainer(config: Namespace, model: NeuralSystem, run_dir: Path) -> Trainer:
    """Returns the trainer of an experiment.

    `TrainingProgress` replaces the progress bars of Lightning that the settings name; with `enable_progress_bar` false
    there is none. The table of the model is shown only if the settings ask for it.

    Args:
        config: settings of the experiment, with instances instead of class paths.
        model: the system to train.
        run_dir: folder of the run.
    """
    settings = dict(config.trainer)
    callbacks, plugins = _to_list(settings["callbacks"]), _to_list(settings["plugins"])
    callbacks = _select_progress_bar(callbacks, settings, f"{config.name}/{run_dir.name}")
    settings["callbacks"] = [*callbacks, config.checkpoint, config.early_stopping]
    settings["enable_model_summary"] = bool(settings["enable_model_summary"])
    settings["plugins"] = [*plugins, *_missing_plugins(plugins)]
    settings["strategy"] = _select_strategy(settings, model)
    trainer: Any = Trainer(**settings)
    # Appended, because the constructor moves checkpoint callbacks behind all others.
    trainer.callbacks += [
        callback for callback in (config.pretrained, config.distillation, config.multitask) if callback is not None
    ]
    trainer.callbacks += [TrainingCost(), LastCheckpoint(run_dir / CHECKPOINT_DIR)]
    complete_trainer: Trainer = trainer
    return complete_trainer


def _select_progress_bar(callbacks: Iterable[Callback], settings: dict[str, Any], name: str) -> list[Callback]:
    """Returns the callbacks with `TrainingProgress` in place of bars of Lightning, or without any bar if disabled."""
    if settings["enable_progress_bar"] is False or settings["barebones"]:
        return [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    others = [callback for callback in callbacks if type(callback) not in (RichProgressBar, TQDMProgressBar)]
    has_custom_bar = any(isinstance(callback, ProgressBar) for callback in others)
    return others if has_custom_bar else [*others, TrainingProgress(name)]


def _to_list(value: Any) -> list[Any]:
    """Returns a setting that may be None, one instance or a list as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _missing_plugins(plugins: Iterable[Any]) -> list[Any]:
    """Returns plugins for atomic checkpoints and for SLURM, unless the settings name plugins of the same kind.

    The requeue of Lightning on SLURM saves a checkpoint within an epoch; `LastCheckpoint` saves one at its end.
    """
    missing: list[Any] = []
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        missing.append(AtomicCheckpointIO())
    # Like Lightning, which prefers torchrun inside a SLURM job.
    is_slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    if is_slurm and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        missing.append(SLURMEnvironment(auto_requeue=False))
    return missing


def _select_strategy(settings: dict[str, Any], model: NeuralSystem) -> Any:
    """Returns the strategy; DDP searches for unused parameters if the model may have some in a step."""
    strategy = settings["strategy"]
    if not model.has_unused_parameters:
        return strategy
    if strategy == "auto" and (
        settings["num_nodes"] > 1 or _n_devices(settings["accelerator"], settings["devices"]) > 1
    ):
        # The strategy that Lightning chooses for "auto".
        strategy = "ddp_fork" if settings["num_nodes"] == 1 and hasattr(sys, "ps1") else "ddp"
    return f"{strategy}_find_unused_parameters_true" if strategy in DDP_STRATEGIES else strategy


def _n_devices(accelerator: Any, devices: Any) -> int:
    """Returns the number of devices of this node that settings of the trainer ask for."""
    if accelerator in ("auto", "gpu", "cuda") and CUDAAccelerator.is_available():
        if devices == "auto":
            return CUDAAccelerator.auto_device_count()
        return len(CUDAAccelerator.parse_devices(devices) or [])
    if accelerator in ("auto", "cpu"):
        return CPUAccelerator.auto_device_count() if devices == "auto" else CPUAccelerator.parse_devices(devices)
    return 1
