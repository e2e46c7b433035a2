"""A sweep as W&B writes it down: what is run, what is drawn, and which score is to be best."""

import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from blend_pl.config import Config, compose, merge, read_yaml
from blend_pl.errors import ConfigError
from blend_pl.runs.folder import MODE, MONITOR, best_score
from blend_pl.sweep.distributions import Distribution, distribution

METHODS = ("bayes", "random", "grid")
KEYS = ("program", "command", "method", "metric", "parameters")
FOR_WANDB = ("name", "description", "project", "entity", "run_cap")
"""Keys that say nothing of what is run; `run_cap` is the most trials of a sweep."""
OURS = ("config", "output", "run_dir", "ckpt_path")
"""Options of `fit` that a sweep gives each trial itself."""
ENVIRONMENT = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
MACROS = ("${env}", "${interpreter}", "${program}", "${args}", "${args_no_equals}")
FORM = '["${env}", "${interpreter}", "-m", "${program}", fit, --config, EXPERIMENT, "${args}"]'


@dataclass(frozen=True)
class SweepFile:
    """A sweep.

    Attributes:
        name: the file's, without its ending.
        method: bayes, random or grid.
        metric: score of the selected checkpoint that is to be best, as `runs.best_score` names it.
        maximize: whether more of it is better.
        parameters: what each option of `fit` is drawn from.
        command: the words of the command, with W&B's macros.
        program: what `${program}` stands for.
        cap: most trials, or None.
        identity: text that is the same for files that ask for the same trials.
    """

    name: str
    method: str
    metric: str
    maximize: bool
    parameters: dict[str, Distribution]
    command: tuple[str, ...]
    program: str
    cap: int | None
    identity: str

    @property
    def size(self) -> float:
        """How many trials there are at most."""
        cap = math.inf if self.cap is None else self.cap
        if self.method != "grid":
            return cap
        return min(cap, math.prod(len(values) for values in self._grid().values()))

    def point(self, number: int) -> dict[str, Any]:
        """The number-th point of a grid, as Optuna is told to draw it; the last parameter changes fastest."""
        chosen: dict[str, Any] = {}
        for name, values in reversed(self._grid().items()):
            number, index = divmod(number, len(values))
            chosen[name] = values[index]
        return chosen

    def _grid(self) -> dict[str, Any]:
        return {name: drawn.grid() for name, drawn in self.parameters.items()}

    def draw(self, trial: Any) -> dict[str, Any]:
        """The parameters of an `optuna.Trial`."""
        return {name: drawn.draw(name, trial) for name, drawn in self.parameters.items()}

    def arguments(self, values: Mapping[str, Any]) -> list[str]:
        """The command of a trial, as a W&B agent builds it, run by this interpreter."""
        joined = [f"--{name}={value}" for name, value in values.items()]
        split = [word for name, value in values.items() for word in (f"--{name}", str(value))]
        macros = dict(zip(MACROS, ([], [sys.executable], [self.program], joined, split), strict=True))
        words = (macros.get(word, [word]) for word in self.command)
        return [part for word in words for part in word]

    def shared(self) -> tuple[list[str], str, list[str]]:
        """What trials have in common: the program, an experiment, and all arguments of `fit` but parameters.

        Raises:
            ConfigError: the command names no experiment.
        """
        words = self.arguments({})
        place, experiments = words.index("fit"), _configs(words)
        if not experiments:
            raise ConfigError(f"`command` names no experiment for trials that share a process; write {FORM}")
        return words[:place], experiments[0], words[place + 1 :]


def read_sweep(path: Path) -> SweepFile:
    """Reads a sweep file.

    Raises:
        ConfigError: the file is missing, is no sweep that W&B's agents and this package both can run, or selects on
            scores that are reported.
    """
    content = read_yaml(path, "sweep", "holds no sweep; begin with one of experiments/sweeps")
    try:
        return _checked(path, content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _checked(path: Path, content: dict[str, Any]) -> SweepFile:
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise ConfigError(f"{', '.join(missing)} is missing; begin with one of experiments/sweeps")
    if "early_terminate" in content:
        raise ConfigError("early_terminate stops trials unreliably; let early_stopping of the experiment do it")
    unknown = sorted(set(content) - {*KEYS, *FOR_WANDB})
    if unknown:
        raise ConfigError(f"unknown key {', '.join(unknown)}; a sweep has {', '.join((*KEYS, *FOR_WANDB))}")
    method, metric, parameters = content["method"], content["metric"], content["parameters"]
    if method not in METHODS:
        raise ConfigError(f"the method is {method!r}; take one of {', '.join(METHODS)}")
    if not (isinstance(parameters, dict) and parameters and all(isinstance(name, str) for name in parameters)):
        raise ConfigError("`parameters` is a mapping from options of fit to what they are drawn from")
    for name in parameters:
        if name.split(".")[0] in OURS:
            raise ConfigError(f"parameter {name} is set for each trial by the sweep; take it out")
    drawn = {name: distribution(name, entry) for name, entry in parameters.items()}
    if method == "grid":
        for name, values in drawn.items():
            if values.grid() is None:
                raise ConfigError(f"parameter {name} has no end of values, a grid needs `values` or whole numbers")
    command = _command(content["command"])
    goal = _goal(metric, command, parameters)
    cap = content.get("run_cap")
    if cap is not None and (type(cap) is not int or cap < 1):
        raise ConfigError(f"run_cap is {cap!r}; write a whole number from 1")
    program, identity = str(content["program"]), json.dumps({key: content[key] for key in KEYS})
    return SweepFile(path.stem, method, metric["name"], goal == "maximize", drawn, command, program, cap, identity)


def _command(words: Any) -> tuple[str, ...]:
    if not (isinstance(words, list) and all(isinstance(word, str | int | float) for word in words)):
        raise ConfigError(f"`command` is a list of words; write {FORM}")
    command = tuple(ENVIRONMENT.sub(lambda found: os.environ.get(found[1], found[1]), str(word)) for word in words)
    for word in command:
        if word.startswith("${") and word not in MACROS:
            raise ConfigError(f"`command` holds {word}, which fit does not take; write {FORM}")
    if "fit" not in command or not {*MACROS[-2:]} & set(command):
        raise ConfigError(f"`command` runs no fit with the parameters; write {FORM}")
    return command


def _configs(words: Sequence[str]) -> list[str]:
    """The files that a command names by --config."""
    joined = [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    return joined + [word for before, word in pairwise(words) if before == "--config"]


def _goal(metric: Any, command: tuple[str, ...], parameters: Mapping[str, Any]) -> str:
    """The goal, if the metric is one to select on and agrees with what selects the checkpoint."""
    if not isinstance(metric, dict) or "name" not in metric or metric.get("goal") not in ("maximize", "minimize"):
        raise ConfigError("`metric` has a name and a goal, maximize or minimize")
    config: Config = {}
    for name in _configs(command):
        config = merge(config, compose(Path(name)))
    checkpoint = config.get("checkpoint", {})
    wanted = best_score(checkpoint.get("monitor", MONITOR))
    if metric["name"] != wanted:
        raise ConfigError(
            f"the metric is {metric['name']}, but only the score that chose the checkpoint may choose among trials, "
            f"for all others are reported; write {wanted}"
        )
    goal = {"max": "maximize", "min": "minimize"}[checkpoint.get("mode", MODE)]
    if metric["goal"] != goal:
        raise ConfigError(f"the goal is to {metric['goal']} {wanted}, but the best checkpoint is chosen to {goal} it")
    chosen_on = config.get("data", {}).get("init_args", {}).get("select_on", "train_holdout")
    if chosen_on != "train_holdout" or any("data.select_on" in word for word in (*command, *parameters)):
        raise ConfigError(
            "the sweep would select on the trials that are reported; leave data.select_on at train_holdout"
        )
    return str(metric["goal"])
