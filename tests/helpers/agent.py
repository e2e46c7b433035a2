"""Commands of trials as W&B's agent builds them."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from wandb import wandb_agent
from wandb.sdk.launch.sweeps.utils import load_sweep_config

from blend_pl.sweep.file import SweepFile


def draw_values(sweep: SweepFile, seed: int) -> dict[str, Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return sweep.draw(study.ask())


def agent_command(path: Path, values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the command that the installed W&B agent runs for these parameters."""
    commands: list[list[str]] = []

    class Recorder:
        def __init__(self, env: dict[str, str], command: list[str], forward_signals: bool) -> None:
            commands.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", Recorder)
    for name in ("WANDB_DIR", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    content = load_sweep_config(str(path))
    assert content is not None
    agent = wandb_agent.Agent(api=None, queue=None)
    agent._sweep_command = content["command"]
    arguments = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"type": "run", "run_id": "x", "program": content["program"], "args": arguments})
    (command,) = commands
    return command
