"""Small systems, their checkpoints and a trainer for tests."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch

from blend_pl.data.signature import Signature
from blend_pl.models import NDT
from blend_pl.systems import NeuralSystem, PopulationSystem, Student, Teacher
from blend_pl.systems.base import INSTANTIATOR

NETWORK: dict[str, Any] = {"num_layers": 2, "num_heads": 2, "dim_feedforward": 8}


def make(
    kind: type[PopulationSystem] = Student, signature: Signature | None = None, **settings: Any
) -> PopulationSystem:
    """Returns a small system, built if a signature is given."""
    system = kind(partial(NDT, **NETWORK), **settings)
    if signature is not None:
        system.build(signature)
    return system


def make_teacher(signature: Signature | None = None, **settings: Any) -> Teacher:
    """Returns a small teacher, built if a signature is given."""
    teacher = make(Teacher, signature, **settings)
    assert isinstance(teacher, Teacher)
    return teacher


def save(system: NeuralSystem, path: Path, **changes: Any) -> Path:
    """Writes a checkpoint like that of a system from a config; `changes` replace entries."""
    checkpoint: dict[str, Any] = {
        "state_dict": system.state_dict(),
        "pytorch-lightning_version": L.__version__,
        "epoch": 0,
        "global_step": 0,
    }
    system.on_save_checkpoint(checkpoint)
    checkpoint["hyper_parameters"] = {
        "_instantiator": INSTANTIATOR,
        "_class_path": f"blend_pl.systems.{type(system).__name__}",
        "backbone": {"class_path": "blend_pl.models.NDT", "init_args": NETWORK},
    }
    torch.save({**checkpoint, **changes}, path)
    return path


def trainer(folder: Path, epochs: int = 1, *callbacks: L.Callback, **settings: Any) -> L.Trainer:
    """Returns a trainer on the CPU without output."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(default_root_dir=folder, max_epochs=epochs, callbacks=[*callbacks], **{**quiet, **settings})
