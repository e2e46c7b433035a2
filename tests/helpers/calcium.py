"""Small calcium recordings, data modules and networks for tests."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blend_pl.data.calcium import BugeonDataModule, BugeonSimulation, CalciumSpec
from blend_pl.data.calcium.recording import CalciumRecording
from blend_pl.data.calcium.spec import CellSplit
from blend_pl.data.signature import Signature
from blend_pl.likelihoods import UnitGaussian
from blend_pl.masking import Masking
from blend_pl.models import NeuPRINT
from blend_pl.systems import PopulationSystem, Student, Teacher

TINY = BugeonSimulation(n_mice=2, n_sessions=2, n_frames=640, n_cells=40)
SPEC = CalciumSpec("tiny", cells=CellSplit(0.6, 0.1))
SESSION, RUN = Path("SB025/2019-10-01"), Path("SB025/2019-10-01/Blank/01")
NETWORK: dict[str, Any] = {"size": 6, "dim_feedforward": 8, "dropout": 0.0}


def tiny_calcium(root: Path, **changes: Any) -> BugeonDataModule:
    """Returns a data module of the tiny simulated tree below `root`, after setup."""
    settings: dict[str, Any] = {
        "spec": SPEC,
        "simulation": TINY,
        "window": 40,
        "n_cells": 24,
        "n_steps": 3,
        "n_windows_eval": 2,
        **changes,
    }
    module = BugeonDataModule(root=str(root), source="simulated", **settings)
    module.setup("fit")
    return module


def neuprint(
    system_class: type[PopulationSystem] = Student, signature: Signature | None = None, **network: Any
) -> PopulationSystem:
    """Returns a small student or teacher, built if a signature is given."""
    torch.manual_seed(0)
    system = system_class(
        partial(NeuPRINT, **{**NETWORK, **network}),
        Masking(0.25, "full", zero_ratio=0.8, random_ratio=0.5),
        UnitGaussian(),
        partial(torch.optim.Adam, lr=1e-2),
    )
    if signature is not None:
        system.build(signature)
    return system


def neuprint_teacher(signature: Signature) -> Teacher:
    """Returns a small teacher that is built."""
    teacher = neuprint(Teacher, signature)
    assert isinstance(teacher, Teacher)
    return teacher


def make_recording(
    cells: list[str], labels: list[str] | None = None, mouse: str = "SB025", frames: int = 60, **changes: Any
) -> CalciumRecording:
    """Returns a recording of random activity, with running, pupil, three states and distant cells."""
    rng = np.random.default_rng(len(cells))
    n = len(cells)
    behavior = np.concatenate(
        [rng.normal(3, 2, (frames, 2)), np.eye(3)[rng.integers(0, 3, frames)]], axis=1, dtype=np.float32
    )
    values: dict[str, Any] = {
        "name": f"{mouse}/day/Blank/01",
        "mouse": mouse,
        "times": np.arange(frames) * 0.25,
        "activity": rng.normal(5, 3, (frames, n)).astype(np.float32),
        "behavior": behavior,
        "n_states": 3,
        "cell_id": np.array(cells),
        "identified": np.ones(n, dtype=bool),
        "label": np.array(labels or ["EC"] * n),
        "position": (np.arange(n)[:, None] * [1000.0, 0, 0]).astype(np.float32),
    }
    return CalciumRecording(**{**values, **changes})


def fit_arguments(*arguments: str) -> list[str]:
    """Returns arguments of `fit` for a small simulated tree and a small network."""
    identity = {"class_path": "blend_pl.callbacks.IdentityEvaluation", "init_args": {"fit": {"max_steps": 3}}}
    return [
        *("--model.backbone.size=4", "--model.backbone.dim_feedforward=8", "--model.backbone.dropout=0"),
        *("--data.window=40", "--data.n_cells=24", "--data.n_steps=3", "--data.simulation.n_frames=640"),
        *("--data.simulation.n_cells=40", "--data.simulation.n_sessions=1", "--trainer.max_epochs=2"),
        *("--trainer.check_val_every_n_epoch=1", "--trainer.accelerator=cpu"),
        f"--trainer.callbacks={json.dumps([identity])}",
        *arguments,
    ]
