"""Runs commands in this process or in a subprocess."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from helpers.nwb_files import write_bump, write_dmfc, write_maze, write_rtt
from lightning.pytorch.utilities.seed import isolate_rng

from blend_pl.cli.main import run_command
from blend_pl.config import Config, compose_experiment, join_reference, split_reference, suggest_composition
from blend_pl.experiment import Experiment

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs"
EXPERIMENTS = REPOSITORY / "experiments"
SMALL_TEST_FILE = REPOSITORY / "../shared/data/sub-Jenkins_ses-small_desc-test_ecephys.nwb"

WRITERS: dict[str, Callable[[Path], object]] = {
    "mc_maze": write_maze,
    "mc_maze_large": lambda folder: write_maze(folder, session="large"),
    "mc_maze_medium": lambda folder: write_maze(folder, session="medium"),
    "mc_maze_small": lambda folder: write_maze(folder, session="small"),
    "mc_rtt": write_rtt,
    "area2_bump": write_bump,
    "dmfc_rsg": write_dmfc,
}
"""Writers of small recordings in the layout of each set, independent of the package's simulator."""

SIMULATED = {"n_train": 20, "n_val": 10, "n_test": 8, "n_units": 12, "n_heldout": 3}
"""Sizes of a small simulated session."""

SIMULATION = [f"--data.simulation.{name}={number}" for name, number in SIMULATED.items()]
"""The same as command-line arguments."""

TINY_BACKBONES = {
    "NDT": {"num_layers": 1, "dim_feedforward": 8},
    "STNDT": {"num_layers": 1, "dim_feedforward": 8},
    "LFADS": {"ic_enc_dim": 4, "ci_enc_dim": 4, "con_dim": 4, "ic_dim": 4, "gen_dim": 8, "fac_dim": 4},
    "PopulationGenerator": {"hidden": 4, "rank": 3},
}
"""Sizes of tiny networks."""

TINY_TRAINING = [
    "--data.bin_ms=20",
    *("--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1", "--trainer.accelerator=cpu"),
]
"""A tiny training budget for any experiment."""

TINY = [*(f"--model.backbone.{name}={size}" for name, size in TINY_BACKBONES["NDT"].items()), *TINY_TRAINING]
"""The same with a tiny network, for experiments with an NDT or STNDT."""


def experiment(*names: str) -> Path:
    """Returns an experiment's file or the reference of a composition.

    Args:
        names: An experiment and overlays of configs/, or the one name that their run has.
    """
    path = EXPERIMENTS / f"{names[0]}.yaml"
    if len(names) == 1:
        return path if path.exists() else Path(suggest_composition(path) or path)
    overlays = {file.stem: file for folder in ("data", "model", "arm") for file in (CONFIGS / folder).glob("*.yaml")}
    return Path(join_reference([path, *(overlays[name] for name in names[1:])]))


def settings_of(reference: Path) -> Config:
    """Returns the composed settings of an experiment or of a reference to several files."""
    return compose_experiment(split_reference(str(reference)))


def write_set(path: Path, folder: Path) -> list[str]:
    """Writes the session of an experiment or data file into a folder and returns the arguments that choose it."""
    settings = settings_of(path)["data"]["init_args"]
    root = [f"--data.root={folder}"]
    if settings.get("source") == "simulated":
        return [*root, *SIMULATION]
    if not folder.exists():
        WRITERS[settings["spec"]["name"]](folder)
    return root


def call(command: str, *arguments: str | Path) -> Experiment:
    """Runs a command in this process."""
    result = run_command([command, *(str(argument) for argument in arguments)])
    assert result is not None
    return result


def backbone_of(path: Path) -> str:
    """Returns the class name of an experiment's backbone."""
    return str(settings_of(path)["model"]["init_args"]["backbone"]["class_path"]).rpartition(".")[2]


def fit_tiny(name: str | Path, output: Path, *arguments: str | Path) -> Experiment:
    """Fits an experiment, by name or reference, in this process with a tiny network."""
    path = name if isinstance(name, Path) else experiment(name)
    network = tiny_network(backbone_of(path))
    return call("fit", "--config", path, f"--output={output}", *network, *TINY_TRAINING, *arguments)


def tiny_network(backbone: str) -> list[str]:
    """Returns arguments for a tiny network."""
    return [f"--model.backbone.{key}={size}" for key, size in TINY_BACKBONES[backbone].items()]


def fit(name: str | Path, output: Path, *arguments: str | Path) -> Path:
    """Does the same and returns the run's folder."""
    return fit_tiny(name, output, *arguments).run_dir


def run_here(command: list[str]) -> int:
    """Runs `PYTHON -m blend_pl ...` in this process without changing its random state, and returns the exit status."""
    with isolate_rng():
        call(*command[3:])
    return 0


def start(*arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
    """Starts `python -m blend_pl` in a subprocess, with pipes for its output."""
    return subprocess.Popen(
        [sys.executable, "-m", "blend_pl", *(str(argument) for argument in arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    """Waits for a command that must succeed and returns its output."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return out


def teacher_args(*arguments: str) -> str:
    """Returns `--teacher_args` for a teacher as tiny as the students of `fit`."""
    return f"--teacher_args={[*TINY, *arguments]}"


def checkpoint(run_dir: Path, name: str = "best.ckpt") -> dict[str, Any]:
    """Reads a checkpoint of a run."""
    return torch.load(run_dir / "checkpoints" / name, weights_only=True)


def weights(run_dir: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    """Reads the weights in a checkpoint of a run."""
    return checkpoint(run_dir, name)["state_dict"]


def differing(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> list[str]:
    """Returns the names of weights that are missing in one or not equal bit by bit."""
    names = first.keys() | second.keys()
    return sorted(n for n in names if n not in first or n not in second or not torch.equal(first[n], second[n]))
