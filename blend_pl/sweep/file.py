"""Sweep files in W&B's format: the command, the parameters and the metric."""

import json
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blend_pl.config import compose, join_reference, read_yaml, split_config_options, split_reference
from blend_pl.errors import ConfigError
from blend_pl.runs.folder import DEFAULT_MODE, DEFAULT_MONITOR, best_score_key
from blend_pl.sweep.distributions import Distribution, parse_distribution

METHODS = ("bayes", "random", "grid")
REQUIRED_KEYS = ("program", "command", "method", "metric", "parameters")
WANDB_ONLY_KEYS = ("name", "description", "project", "entity", "run_cap")
"""Keys that do not affect a trial; `run_cap` is the maximum number of trials."""
RESERVED_OPTIONS = ("config", "output", "run_dir", "ckpt_path")
"""Options of `fit` that the sweep sets for each trial."""
ENVVAR_PATTERN = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
MACROS = ("${env}", "${interpreter}", "${program}", "${args}", "${args_no_equals}")
COMMAND_EXAMPLE = '["${env}", "${interpreter}", "-m", "${program}", fit, --config, EXPERIMENT, "${args}"]'


@dataclass(frozen=True)
class SweepFile:
    """A parsed sweep file.

    Attributes:
        name: values of the environment variables in `command` and the file name without suffix, joined by `_`.
        method: bayes, random or grid.
        metric: score of the selected checkpoint to optimize, named as by `runs.folder.best_score_key`.
        maximize: whether a higher score is better.
        parameters: distribution of each option of `fit`.
        command: words of the command, with W&B's macros.
        program: value of the macro `${program}`.
        run_cap: maximum number of trials, or None.
        identity: string that is equal for files with the same trials.
    """

    name: str
    method: str
    metric: str
    maximize: bool
    parameters: dict[str, Distribution]
    command: tuple[str, ...]
    program: str
    run_cap: int | None
    identity: str

    @property
    def max_trials(self) -> float:
        """Maximum number of trials; infinite without a limit."""
        run_cap = math.inf if self.run_cap is None else self.run_cap
        if self.method != "grid":
            return run_cap
        return min(run_cap, math.prod(len(values) for values in self._grid_values().values()))

    def grid_point(self, number: int) -> dict[str, Any]:
        """Returns the values of trial `number` of a grid, as Optuna stores them; the last parameter changes fastest."""
        point: dict[str, Any] = {}
        for name, values in reversed(self._grid_values().items()):
            number, index = divmod(number, len(values))
            point[name] = values[index]
        return point

    def _grid_values(self) -> dict[str, Any]:
        return {name: distribution.grid_values() for name, distribution in self.parameters.items()}

    def draw(self, trial: Any) -> dict[str, Any]:
        """Returns the parameters of an `optuna.Trial`."""
        return {name: distribution.draw(name, trial) for name, distribution in self.parameters.items()}

    def build_command(self, values: Mapping[str, Any]) -> list[str]:
        """Returns the command of a trial, built as by a W&B agent, with this Python interpreter."""
        joined_args = [f"--{name}={value}" for name, value in values.items()]
        split_args = [word for name, value in values.items() for word in (f"--{name}", str(value))]
        macros = dict(zip(MACROS, ([], [sys.executable], [self.program], joined_args, split_args), strict=True))
        expanded = (macros.get(word, [word]) for word in self.command)
        return [argument for word in expanded for argument in word]

    def split_command(self) -> tuple[list[str], str, list[str]]:
        """Returns the parts of the command that all trials share.

        Returns:
            Words before `fit`, the experiment file, and all arguments of `fit` except parameters.

        Raises:
            ConfigError: the command names no experiment.
        """
        words = self.build_command({})
        fit_index = words.index("fit")
        experiments, fit_args = split_config_options(words[fit_index + 1 :])
        if not experiments:
            raise ConfigError(
                f"--max_parallel needs an experiment in `command`, which names none; write {COMMAND_EXAMPLE}"
            )
        return words[:fit_index], join_reference(experiments), fit_args


def read_sweep(path: Path) -> SweepFile:
    """Reads a sweep file.

    Raises:
        ConfigError: the file is missing, is not a sweep that both W&B's agents and this package can run, or selects
            trials by scores that are reported.
    """
    content = read_yaml(path, "sweep", "contains no sweep; start from one of experiments/sweeps")
    try:
        return _parse(path, content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parse(path: Path, content: dict[str, Any]) -> SweepFile:
    missing = [key for key in REQUIRED_KEYS if key not in content]
    if missing:
        raise ConfigError(f"{', '.join(missing)} is missing; start from one of experiments/sweeps")
    if "early_terminate" in content:
        raise ConfigError("early_terminate stops trials unreliably; use early_stopping of the experiment instead")
    unknown = sorted(set(content) - {*REQUIRED_KEYS, *WANDB_ONLY_KEYS})
    if unknown:
        raise ConfigError(
            f"unknown key {', '.join(unknown)}; the keys of a sweep are {', '.join((*REQUIRED_KEYS, *WANDB_ONLY_KEYS))}"
        )
    method, metric, parameters = content["method"], content["metric"], content["parameters"]
    if method not in METHODS:
        raise ConfigError(f"the method is {method!r}; use one of {', '.join(METHODS)}")
    if not (isinstance(parameters, dict) and parameters and all(isinstance(name, str) for name in parameters)):
        raise ConfigError("`parameters` must be a mapping from options of `fit` to distributions")
    for name in parameters:
        if name.split(".")[0] in RESERVED_OPTIONS:
            raise ConfigError(f"the sweep sets parameter {name} for each trial itself; remove it")
    distributions = {name: parse_distribution(name, entry) for name, entry in parameters.items()}
    if method == "grid":
        for name, distribution in distributions.items():
            if distribution.grid_values() is None:
                raise ConfigError(f"parameter {name} is continuous; `method: grid` needs `values` or an integer range")
    command = _parse_command(content["command"])
    goal = _check_goal(metric, command, parameters)
    run_cap = content.get("run_cap")
    if run_cap is not None and (type(run_cap) is not int or run_cap < 1):
        raise ConfigError(f"run_cap is {run_cap!r}; write an integer of at least 1")
    variables = dict.fromkeys(name for word in content["command"] for name in ENVVAR_PATTERN.findall(str(word)))
    name = "_".join([*(os.environ[variable] for variable in variables), path.stem])
    program, identity = str(content["program"]), json.dumps({key: content[key] for key in REQUIRED_KEYS})
    return SweepFile(
        name, method, metric["name"], goal == "maximize", distributions, command, program, run_cap, identity
    )


def _parse_command(words: Any) -> tuple[str, ...]:
    if not (isinstance(words, list) and all(isinstance(word, str | int | float) for word in words)):
        raise ConfigError(f"`command` must be a list of words; write {COMMAND_EXAMPLE}")
    missing = [name for word in words for name in ENVVAR_PATTERN.findall(str(word)) if name not in os.environ]
    if missing:
        raise ConfigError(f"the environment variable {missing[0]} is not set; set it, as in {missing[0]}=VALUE COMMAND")
    command = tuple(_substitute_variables(word) for word in words)
    for word in command:
        if word.startswith("${") and word not in MACROS:
            raise ConfigError(f"`command` contains {word}, which `sweep` does not support; write {COMMAND_EXAMPLE}")
    if "fit" not in command or not {*MACROS[-2:]} & set(command):
        raise ConfigError(f"`command` does not run `fit` with the parameters; write {COMMAND_EXAMPLE}")
    return command


def _substitute_variables(word: Any) -> str:
    return ENVVAR_PATTERN.sub(lambda match: os.environ[match[1]], str(word))


def _check_goal(metric: Any, command: tuple[str, ...], parameters: Mapping[str, Any]) -> str:
    """Returns the goal, after checking that the metric is the score that selects the checkpoint."""
    if not isinstance(metric, dict) or "name" not in metric or metric.get("goal") not in ("maximize", "minimize"):
        raise ConfigError("`metric` needs a name and a goal, maximize or minimize")
    config = compose(*(path for name in split_config_options(command)[0] for path in split_reference(name)))
    checkpoint = config.get("checkpoint", {})
    selection_score = best_score_key(checkpoint.get("monitor", DEFAULT_MONITOR))
    if metric["name"] != selection_score:
        raise ConfigError(
            f"the metric is {metric['name']}, but trials may be selected only by the score that selects the checkpoint "
            f"because all others are reported; write {selection_score}"
        )
    goal = {"max": "maximize", "min": "minimize"}[checkpoint.get("mode", DEFAULT_MODE)]
    if metric["goal"] != goal:
        raise ConfigError(
            f"the goal is to {metric['goal']} {selection_score}, but the best checkpoint is selected to {goal} it; "
            f"write goal: {goal}"
        )
    selection_split = config.get("data", {}).get("init_args", {}).get("selection_split", "train_holdout")
    if selection_split != "train_holdout" or any("data.selection_split" in word for word in (*command, *parameters)):
        raise ConfigError(
            "the sweep would select by the trials that are reported; leave data.selection_split at train_holdout"
        )
    return str(metric["goal"])
